import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.images.scans import hounsfield, volume
from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.itk_volume import itk_reason, read_itk_volume

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
both = pytest.mark.parametrize("compressed", [False, True])
every_ending = pytest.mark.parametrize("ending", ENDINGS)


def written(folder: Path, ending: str, compressed: bool, image: sitk.Image | None = None) -> tuple[Path, Path]:
    """Write a scan; returns its file and the one that holds the voxels."""
    path = folder / f"scan{ending}"
    sitk.WriteImage(volume() if image is None else image, str(path), compressed)
    others = [other for other in folder.iterdir() if other != path]
    return path, others[0] if others else path


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read_itk_volume(path)
    assert "scan" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


@both
@every_ending
def test_what_simpleitk_wrote(tmp_path: Path, ending: str, compressed: bool) -> None:
    image = sitk.DICOMOrient(volume(), "SAR")
    result = read_itk_volume(written(tmp_path, ending, compressed, image)[0])
    assert np.array_equal(sitk.GetArrayFromImage(result), sitk.GetArrayFromImage(image))
    assert grid_differences(result, image) == []


def test_an_ending_in_capitals(tmp_path: Path) -> None:
    for ending in (".mha", ".nrrd"):
        path = written(tmp_path, ending, False)[0]
        assert read_itk_volume(path.rename(tmp_path / f"B{ending.upper()}")).GetSize() == volume().GetSize()


@both
@every_ending
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_voxels_cut_short(tmp_path: Path, ending: str, compressed: bool, kept: float) -> None:
    path, data = written(tmp_path, ending, compressed)
    content = data.read_bytes()
    data.write_bytes(content[: int(len(content) * kept)])
    refused(path, "cut short|damaged|cannot be read|not there")


@every_ending
def test_damage_inside_compressed_voxels(tmp_path: Path, ending: str) -> None:
    path, data = written(tmp_path, ending, True)
    content = bytearray(data.read_bytes())
    content[-100] ^= 255
    data.write_bytes(content)
    refused(path, "damaged")


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_the_file_of_the_voxels_is_missing(tmp_path: Path, ending: str) -> None:
    path, data = written(tmp_path, ending, False)
    data.unlink()
    refused(path, rf"{data.name}.*(not there|for reading)")


@pytest.mark.parametrize("value", ["-1 2 3", "1 2 -.5"])
def test_negative_spacing(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(re.sub(rb"ElementSpacing = .*", f"ElementSpacing = {value}".encode(), path.read_bytes()))
    refused(path, f"negative spacing, .{value}")
    path = written(tmp_path, ".nrrd", False)[0]
    content = re.sub(rb"space: .*\n|space origin.*\n", b"", path.read_bytes())
    path.write_bytes(re.sub(rb"space directions.*", f"spacings: {value}".encode(), content))
    refused(path, f"negative spacing, .{value}")


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
    refused(path, "does not tell its spacing along all axes|cannot be read")


def test_a_meta_image_without_spacing(tmp_path: Path) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(re.sub(rb"ElementSpacing.*\n", b"", path.read_bytes()))
    refused(path, "does not tell its spacing")


def test_small_spacing_is_not_negative(tmp_path: Path) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(re.sub(rb"ElementSpacing = .*", b"ElementSpacing = 1e-1 2 5e-1", path.read_bytes()))
    assert read_itk_volume(path).GetSpacing() == (0.1, 2, 0.5)


def test_a_name_that_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, ".mha", False)[0]
    path.write_bytes(path.read_bytes().replace(b"LOCAL\n", b"LOCAL" * 100 + b"\n"))
    refused(path, "which is not there")


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
    refused(path, "keeps its voxels in several files .*; save it as one file")


def test_another_way_to_end_lines_or_keys_hides_no_pattern(tmp_path: Path) -> None:
    path, data = written(tmp_path, ".mhd", False)
    path.write_text(path.read_text().replace(f"ElementDataFile = {data.name}", "ElementDataFile : s%s%s.raw 1 3 1"))
    refused(path, "in several files")
    path, data = written(tmp_path, ".nhdr", False)
    content = path.read_bytes().replace(data.name.encode(), b"%s%s.raw 1 3 1")
    path.write_bytes(content.replace(b"\n", b"\r"))
    refused(path, "in several files")
    path.write_bytes(b"NRRD0004\n" + b"#\n" * 2**20 + content)
    refused(path, "no end in 1048576 bytes")


@pytest.mark.parametrize(("ending", "sizes"), [(".nrrd", rb"sizes: [\d ]+"), (".mha", rb"DimSize = [\d ]+")])
@both
def test_absurd_sizes_take_no_memory(tmp_path: Path, ending: str, sizes: bytes, compressed: bool) -> None:
    path = written(tmp_path, ending, compressed)[0]
    key = sizes.split(b"[")[0]
    path.write_bytes(re.sub(sizes, key + b"60000 60000 60000", path.read_bytes()))
    refused(path, "cut short: .* promises 432000000000000")


@every_ending
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_not_finite(tmp_path: Path, ending: str, bad: float) -> None:
    voxels = hounsfield().astype(np.float64 if bad == 1e300 else np.float32)
    voxels[2, 3, 4] = bad
    refused(written(tmp_path, ending, False, volume(voxels))[0], "1 voxels that are NaN or infinite")


@every_ending
def test_not_one_3d_volume_of_single_values(tmp_path: Path, ending: str) -> None:
    flat = sitk.GetImageFromArray(np.zeros((4, 5), np.int16))
    refused(written(tmp_path, ending, False, flat)[0], "2-dimensional")
    colour = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    refused(written(tmp_path, ending, False, colour)[0], "more than one value")
    series = sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False)
    refused(written(tmp_path, ending, False, series)[0], "4-dimensional")


@every_ending
def test_a_fourth_axis_of_length_one_is_dropped(tmp_path: Path, ending: str) -> None:
    image = sitk.JoinSeries(sitk.DICOMOrient(volume(), "SAR"))
    result = read_itk_volume(written(tmp_path, ending, False, image)[0])
    assert grid_differences(result, sitk.DICOMOrient(volume(), "SAR")) == []


@every_ending
def test_other_files_under_its_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    for content in (b"", b"no image at all", bytes(1000)):
        path.write_bytes(content)
        refused(path, "cannot be read")


def test_reasons_are_one_line_without_addresses() -> None:
    assert itk_reason(RuntimeError("in file\nITK ERROR: Reader(0x55ad): no\n")) == "ITK ERROR: Reader: no"
