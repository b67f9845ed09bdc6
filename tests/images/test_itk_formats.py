import bz2
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.images.scans import hounsfield, refuses_file, volume, written
from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.itk_formats import itk_reason
from unetr_nnunet.images.read import read_image

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
both = pytest.mark.parametrize("compressed", [False, True])
every_ending = pytest.mark.parametrize("ending", ENDINGS)


@both
@every_ending
def test_what_simpleitk_wrote(tmp_path: Path, ending: str, compressed: bool) -> None:
    image = sitk.DICOMOrient(volume(), "SAR")
    result = read_image(written(tmp_path, ending, compressed, image)[0])
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(image))
    assert grid_differences(result, image) == []


def test_an_ending_in_capitals(tmp_path: Path) -> None:
    for ending in (".mha", ".nrrd"):
        path = written(tmp_path, ending, False)[0]
        assert read_image(path.rename(tmp_path / f"B{ending.upper()}")).GetSize() == volume().GetSize()


@both
@every_ending
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_voxels_cut_short(tmp_path: Path, ending: str, compressed: bool, kept: float) -> None:
    path, data = written(tmp_path, ending, compressed)
    content = data.read_bytes()
    data.write_bytes(content[: int(len(content) * kept)])
    refuses_file(path, "cut short|damaged|cannot be read|not there")


@every_ending
def test_damage_inside_compressed_voxels(tmp_path: Path, ending: str) -> None:
    path, data = written(tmp_path, ending, True)
    content = bytearray(data.read_bytes())
    content[-100] ^= 255
    data.write_bytes(content)
    refuses_file(path, "damaged")


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_the_file_of_the_voxels_is_missing(tmp_path: Path, ending: str) -> None:
    path, data = written(tmp_path, ending, False)
    data.unlink()
    refuses_file(path, rf"{data.name}.*(not there|for reading)")


@pytest.mark.parametrize("value", ["-1 2 3", "1 2 -.5"])
def test_negative_spacing(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(re.sub(rb"ElementSpacing = .*", f"ElementSpacing = {value}".encode(), path.read_bytes()))
    refuses_file(path, f"negative spacing, .{value}")
    path = written(tmp_path, ".nrrd", False)[0]
    content = re.sub(rb"space: .*\n|space origin.*\n", b"", path.read_bytes())
    path.write_bytes(re.sub(rb"space directions.*", f"spacings: {value}".encode(), content))
    refuses_file(path, f"negative spacing, .{value}")


@pytest.mark.parametrize(
    "line",
    [
        "spacings: 1 nan 1", "spacings: nan nan nan", "spacings: 1 1", "", "space directions: none none none",
        "space directions: (1,0,0) (0,1,0) none", "space directions: (1,0,0) (0,nan,0) (0,0,1)",
        "space directions: (1,0,0) (0,inf,0) (0,0,1)",
    ],
)  # fmt: skip
def test_an_nrrd_that_does_not_tell_its_spacing(tmp_path: Path, line: str) -> None:
    """SimpleITK takes 1 mm."""
    path = written(tmp_path, ".nrrd", False)[0]
    content = re.sub(rb"space directions.*\n", f"{line}\n".encode() if line else b"", path.read_bytes())
    if "directions" not in line:
        content = re.sub(rb"space: .*\n|space origin.*\n", b"", content)
    path.write_bytes(content)
    refuses_file(path, "does not give its spacing along all axes|cannot be read")


def test_a_meta_image_without_spacing(tmp_path: Path) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(re.sub(rb"ElementSpacing.*\n", b"", path.read_bytes()))
    refuses_file(path, "does not give its spacing")


def test_small_spacing_is_not_negative(tmp_path: Path) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(re.sub(rb"ElementSpacing = .*", b"ElementSpacing = 1e-1 2 5e-1", path.read_bytes()))
    assert read_image(path).GetSpacing() == (0.1, 2, 0.5)


def test_a_name_that_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(path.read_bytes().replace(b"LOCAL\n", b"LOCAL" * 100 + b"\n"))
    refuses_file(path, "which is not there")


@pytest.mark.parametrize(("ending", "sizes"), [(".nrrd", rb"sizes: [\d ]+"), (".mha", rb"DimSize = [\d ]+")])
@both
def test_absurd_sizes_take_no_memory(tmp_path: Path, ending: str, sizes: bytes, compressed: bool) -> None:
    path = written(tmp_path, ending, compressed)[0]
    key = sizes.split(b"[")[0]
    path.write_bytes(re.sub(sizes, key + b"60000 60000 60000", path.read_bytes()))
    refuses_file(path, "cut short: .* promises 432000000000000")


@every_ending
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_not_finite(tmp_path: Path, ending: str, bad: float) -> None:
    voxels = hounsfield().astype(np.float64 if bad == 1e300 else np.float32)
    voxels[2, 3, 4] = bad
    refuses_file(written(tmp_path, ending, False, volume(voxels))[0], "1 voxels that are NaN or infinite")


@every_ending
def test_not_one_3d_volume_of_single_values(tmp_path: Path, ending: str) -> None:
    flat = sitk.GetImageFromArray(np.zeros((4, 5), np.int16))
    refuses_file(written(tmp_path, ending, False, flat)[0], "2-dimensional")
    colour = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    refuses_file(written(tmp_path, ending, False, colour)[0], "more than one value")
    series = sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False)
    refuses_file(written(tmp_path, ending, False, series)[0], "4-dimensional")


@every_ending
def test_a_fourth_axis_of_length_one_is_dropped(tmp_path: Path, ending: str) -> None:
    image = sitk.JoinSeries(sitk.DICOMOrient(volume(), "SAR"))
    result = read_image(written(tmp_path, ending, False, image)[0])
    assert grid_differences(result, sitk.DICOMOrient(volume(), "SAR")) == []


@every_ending
def test_other_files_under_its_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    for content in (b"", b"no image at all", bytes(1000)):
        path.write_bytes(content)
        refuses_file(path, "cannot be read")


def test_reasons_are_one_line_without_addresses() -> None:
    assert itk_reason(RuntimeError("in file\nITK ERROR: Reader(0x55ad): no\n")) == "ITK ERROR: Reader: no"


@pytest.mark.parametrize("written_as", [b"True", b"true", b"T", b"1"])
def test_every_way_to_say_compressed(tmp_path: Path, written_as: bytes) -> None:
    path = written(tmp_path, ".mha", True)[0]
    content = path.read_bytes().replace(b"CompressedData = True", b"CompressedData = " + written_as)
    path.write_bytes(content)
    assert grid_differences(read_image(path), volume()) == []
    path.write_bytes(content[:-100] + bytes([content[-100] ^ 255]) + content[-99:])
    refuses_file(path, "damaged")


def test_bzip2_is_refused_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, ".nrrd", False)[0]
    header, voxels = path.read_bytes().split(b"\n\n", 1)
    path.write_bytes(header.replace(b"encoding: raw", b"encoding: bzip2") + b"\n\n" + bz2.compress(voxels))
    refuses_file(path, "bzip2 encoding not available")
