import numpy as np
import pytest

from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.voxel_lists import read_mask, read_spacing_mm, read_values

SHAPE = (2, 3, 4)


@pytest.fixture
def file(tmp_path):
    def write(text):
        (tmp_path / "a.csv").write_bytes(text.encode() if isinstance(text, str) else text)
        return SourceFile("a.csv", 1, 1, path=tmp_path / "a.csv")

    return write


def fact(reader, file, *options):
    with pytest.raises(ProblemsFoundError) as caught:
        reader(file, *options)
    (problem,) = caught.value.problems
    assert problem.file == "a.csv"
    assert "restore the file" in problem.remedy
    return problem.fact


def test_a_mask_and_values(file):
    assert read_mask(file(",data\n23,\n0,\n"), SHAPE).tolist() == [23, 0]
    indices, values = read_values(file(",data\r\n5,18.0\r\n7,2.5\r\n"), SHAPE, 0, 100)
    assert (indices.tolist(), values.tolist()) == ([5, 7], [18, 2.5])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "its first line is '', not ',data'"),
        ("3,\n4,\n", "its first line is '3,', not ',data'"),
        (",data\n", "lists no voxel"),
        (",data\n24,\n", "names the voxel 24; 2 x 3 x 4 voxels have the whole numbers 0 to 23"),
        (",data\n-1,\n", "names the voxel -1;"),
        (",data\n1.5,\n", "names the voxel 1.5;"),
        (",data\nnan,\n", "names the voxel nan;"),
        (",data\n4,\n4,\n", "names a voxel twice"),
        (",data\n4,\n12", "ends in the middle of a line"),
        (",data\n4,\n5,0.0\n", "holds values, such as 0.0, where a contour has none"),
        (",data\nfour,\n", "cannot be read"),
        (b",data\n\xff\xfe,\n", "cannot be read"),
        ("<html>\n", "its first line is '<html>'"),
    ],
)
def test_masks_that_are_refused(text, expected, file):
    assert expected in fact(read_mask, file(text), SHAPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (",data\n1,2\n2\n", "cannot be read"),
        (",data\n1,2\n2,11", "ends in the middle of a line"),
        (",data\n1,\n", "cannot be read"),
        (",data\n1,nan\n", "contains NaN or infinite values"),
        (",data\n1,5\n2,inf\n", "contains NaN or infinite values"),
        (",data\n1,-1000\n", "holds values from -1000 to -1000, allowed are 0 to 100"),
        (",data\n1,101\n", "holds values from 101 to 101, allowed are 0 to 100"),
        (",data\n24,1\n", "names the voxel 24;"),
    ],
)
def test_values_that_are_refused(text, expected, file):
    assert expected in fact(read_values, file(text), SHAPE, 0, 100)


def test_a_spacing(file):
    assert np.array_equal(read_spacing_mm(file("3.906e+00\n3.9\n2.5\n")), [3.906, 3.9, 2.5])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds 0 numbers instead of three voxel sizes"),
        ("3.9\n2.5\n", "holds 2 numbers"),
        ("3.9\n3.9\nthick\n", "cannot be read"),
        ("0.39\n0.39\n0.25\n", "gives voxels of 0.39 x 0.39 x 0.25 mm; 1 to 10 are possible"),
        ("3.9\n3.9\n-2.5\n", "1 to 10 are possible"),
        ("3.9\n3.9\n0\n", "1 to 10 are possible"),
        ("3.9\n3.9\nnan\n", "1 to 10 are possible"),
        ("3.9\n3.9\ninf\n", "1 to 10 are possible"),
    ],
)
def test_spacings_that_are_refused(text, expected, file):
    assert expected in fact(read_spacing_mm, file(text))


def test_a_file_that_cannot_be_opened(tmp_path):
    file = SourceFile("a.csv", 1, 1, path=tmp_path / "gone.csv")
    assert "cannot be read" in fact(read_mask, file, SHAPE)
