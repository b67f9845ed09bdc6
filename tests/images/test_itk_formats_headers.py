from pathlib import Path

import pytest
import SimpleITK as sitk

from tests.images.scans import refuses_file, volume, written
from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.itk_formats import data_file, meta_header_defect
from unetr_nnunet.images.read import read_image

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")


@pytest.mark.parametrize(
    "files",
    [
        "slice%d.raw 0 5 1",
        "%s%s%s%s%s%s.raw 1 3 1",
        "s%03d.raw 1 3 0",
        "s%d.raw 0  1",
        "s%d.raw 0 2F1",
        "s%999999999d.raw 1 3 1 2",
        "LIST",
        "list",
        "LIST 2D",
    ],
)
@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_voxels_in_several_files(tmp_path: Path, ending: str, files: str) -> None:
    """With some of these patterns SimpleITK would end this very process."""
    path, data = written(tmp_path, ending, False)
    path.write_text(path.read_text().replace(data.name, files))
    refuses_file(path, "keeps its voxels in several files .*; save it as one file")


def test_another_way_to_end_lines_or_keys_hides_no_pattern(tmp_path: Path) -> None:
    path, data = written(tmp_path, ".mhd", False)
    path.write_text(path.read_text().replace(f"ElementDataFile = {data.name}", "ElementDataFile : s%s%s.raw 1 3 1"))
    refuses_file(path, "in several files")
    path, data = written(tmp_path, ".nhdr", False)
    content = path.read_bytes().replace(data.name.encode(), b"%s%s.raw 1 3 1")
    path.write_bytes(content.replace(b"\n", b"\r"))
    refuses_file(path, "in several files")
    path.write_bytes(b"NRRD0004\n" + b"#\n" * 2**20 + content)
    refuses_file(path, "no end in 1048576 bytes")


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
@pytest.mark.parametrize("name", ["{parent}/secret.raw", "../outside/secret.raw", "x/../../outside/secret.raw"])
def test_voxels_outside_of_the_header_s_folder_are_not_read(tmp_path: Path, ending: str, name: str) -> None:
    (tmp_path / "given").mkdir()
    path, data = written(tmp_path / "given", ending, False)
    (tmp_path / "outside").mkdir()
    data.rename(tmp_path / "outside" / "secret.raw")
    path.write_text(path.read_text().replace(data.name, name.format(parent=tmp_path / "outside")))
    refuses_file(path, "outside of its own folder; save it as one file")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_any_end_of_line_of_nrrd(tmp_path: Path, line_end: bytes) -> None:
    """SimpleITK takes a bare carriage return for one."""
    path, data = written(tmp_path, ".nhdr", False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", line_end))
    assert data_file(path) == data
    assert grid_differences(read_image(path), volume()) == []
    for elsewhere in (b"../outside/secret.raw", b"/etc/passwd"):
        path.write_bytes(content.replace(data.name.encode(), elsewhere).replace(b"\n", line_end))
        refuses_file(path, "outside of its own folder")


def test_the_file_of_the_voxels(tmp_path: Path) -> None:
    for ending in ENDINGS:
        (tmp_path / ending).mkdir()
        path, data = written(tmp_path / ending, ending, False)
        assert data_file(path) == data
    (tmp_path / ".mhd" / "below").mkdir()
    path, data = tmp_path / ".mhd" / "scan.mhd", tmp_path / ".mhd" / "scan.raw"
    below = data.rename(tmp_path / ".mhd" / "below" / "scan.raw")
    path.write_text(path.read_text().replace("scan.raw", "below/scan.raw"))
    assert data_file(path) == below
    assert grid_differences(read_image(path), volume()) == []


@pytest.mark.parametrize(
    "line", [b"k" * 1100 + b": x", b"centerings: " + b"c" * 5000, b"j" * 50_000], ids=["key", "value", "neither"]
)
def test_long_lines_of_nrrd(tmp_path: Path, line: bytes) -> None:
    """SimpleITK would end this very process."""
    path, _ = written(tmp_path, ".nrrd", False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\nencoding", b"\n" + line + b"\nencoding"))
    refuses_file(path, "line 11 of its header is longer than 500 bytes")
    path.write_bytes(content.replace(b"\nencoding", b"\n# " + line + b"\nkey:=" + line + b"\nencoding"))
    assert grid_differences(read_image(path), volume()) == []


def test_two_data_files_and_names_that_are_not_utf8(tmp_path: Path) -> None:
    path, data = written(tmp_path, ".nhdr", False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"data file", b"data file: other.raw\ndata file"))
    refuses_file(path, "in several files")
    path.write_bytes(content.replace(data.name.encode(), b"f\xfcr.raw"))
    refuses_file(path, "outside of its own folder")


HEADER = b"""ObjectType = Image
NDims = 3
Comment = a scan: x = 1
BinaryData = True
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = -50 4e1 -.5
DimSize = 10 8 6
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""


@pytest.mark.parametrize("dimensions", [2, 3, 4])
@pytest.mark.parametrize("ending", [".mha", ".mhd"])
def test_what_simpleitk_writes_is_sound(tmp_path: Path, ending: str, dimensions: int) -> None:
    image = {2: volume()[:, :, 0], 3: volume(), 4: sitk.JoinSeries(volume())}[dimensions]
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(image, str(path))
    assert meta_header_defect(path.read_bytes()) == ""


def test_line_ends_and_what_follows_the_header_do_not_matter() -> None:
    assert meta_header_defect(HEADER + b"\x00\xff\n\n") == ""
    assert meta_header_defect(HEADER.replace(b"True", b"True\r")) != ""
    dicom = b"0008|0008 = ORIGINAL\\PRIMARY\ndim[0] = 3\nObjectType"
    assert meta_header_defect(HEADER.replace(b"ObjectType", dicom)) == ""
    assert meta_header_defect(HEADER.rstrip()) == ""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"NDims = 3", b"NDims = 99999", "NDims = 99999"),
        (b"NDims = 3", b"NDims = -3", "NDims = -3"),
        (b"NDims = 3\n", b"", "NDims = nothing"),
        (b"NDims = 3", b"NDims = 2", "where 4 numbers belong"),
        (b"10 8 6", b"10 8", "DimSize = 10 8, where 3 numbers belong"),
        (b"10 8 6", b"10 8 6 7", "DimSize"),
        (b"10 8 6", b"10 8 x", "DimSize"),
        (b"10 8 6", b"10 8 " + b"6" * 100, "DimSize"),
        (b"BinaryData", b"NDims", "NDims twice"),
        (b"BinaryData = True", b"BinaryData", "line 4 of its header is no 'key = value'"),
        (b"BinaryData", b"\xff\x00", "line 4"),
        (b"True", b"T\x00ue", "line 4"),
        (b"True", b"T" * 5000, "line 4"),
        (b"ElementDataFile = LOCAL\n", b"", "line 9"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile =", "no data file"),
    ],
)
def test_defects(old: bytes, new: bytes, reason: str) -> None:
    assert old in HEADER
    assert reason in meta_header_defect(HEADER.replace(old, new))


def test_no_header_at_all() -> None:
    assert meta_header_defect(b"")
    assert meta_header_defect(bytes(1000))
