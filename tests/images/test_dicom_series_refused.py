from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.images.dicom_encodings import (
    COMPRESSED,
    bytes_swapped,
    implicit,
    run_length,
    signed,
)
from tests.images.scans import (
    hounsfield,
    read_series,
    refuses,
    write_series,
)

Edit = Callable[[int, pydicom.Dataset], None]


def only(which: int, **changes: object) -> Edit:
    """Change attributes of one slice; None deletes."""

    def edit(number: int, dataset: pydicom.Dataset) -> None:
        for keyword, value in changes.items():
            if number == which and value is None:
                delattr(dataset, keyword)
            elif number == which:
                setattr(dataset, keyword, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (only(2, SOPInstanceUID=None), r"5 mm between IM0005\.dcm and IM0003\.dcm where 2\.5 mm are usual"),
        (only(2, ImagePositionPatient=[-50, 40, -107.5]), r"IM0004\.dcm and IM0005\.dcm lie at the same position"),
        (only(2, ImagePositionPatient=[-50, 40, -105.5]), "unevenly spaced"),
        (only(2, SeriesInstanceUID="1.2.3"), "belong to different series"),
        (only(2, Rows=4), "differ in size, 10 x 8 and 10 x 4 pixels"),
        (only(2, PixelSpacing=[0.8, 0.8]), "differ in pixel spacing"),
        (only(2, ImageOrientationPatient=[0, 1, 0, -1, 0, 0]), "differ in orientation"),
        (only(2, ImagePositionPatient=None), "tells no position"),
        (only(2, ImagePositionPatient=[0, 0]), "tells no position"),
        (only(2, PhotometricInterpretation="RGB", SamplesPerPixel=3), r"colour or inverted image \(RGB\)"),
        (only(2, PhotometricInterpretation="MONOCHROME1"), r"inverted image \(MONOCHROME1\)"),
        (only(2, BitsAllocated=12), "12 bits"),
        (only(2, PixelData=None), "holds no pixels"),
        (only(2, PixelData=bytes(100)), "cut short: .* asks for 160"),
        (only(2, Rows=0), "holds no pixels"),
        (only(2, Rows=65535, Columns=65535), "cut short"),
        (only(2, RescaleSlope=0), "no usable rescale"),
        (only(2, NumberOfFrames=2, PixelData=bytes(320)), "2 frames among other slices"),
    ],
)
def test_one_wrong_slice(tmp_path: Path, edit: Edit, reason: str) -> None:
    refuses(write_series(tmp_path, edit), reason)


def every(**changes: object) -> Edit:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)

    return edit


def tilted(number: int, dataset: pydicom.Dataset) -> None:
    dataset.ImagePositionPatient = [-50, 40 + number * 0.3, -110 + number * 2.5]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (tilted, r"gantry tilt of 6\.8"),
        (every(PixelSpacing=[0, 0.7]), "has spacing .*; correct its spacing"),
        (every(PixelSpacing=[0.8, -0.7]), "has spacing"),
        (every(ImageOrientationPatient=[1, 0, 0, 0.5, 0.866, 0]), "not orthonormal"),
        (every(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]), "not orthonormal"),
    ],
)
def test_a_wrong_stack(tmp_path: Path, edit: Edit, reason: str) -> None:
    refuses(write_series(tmp_path, edit), reason)


@pytest.mark.parametrize("transfer", [implicit, *COMPRESSED])
def test_a_slice_cut_short(tmp_path: Path, transfer: Edit) -> None:
    files = write_series(tmp_path, transfer)
    content = files[2].read_bytes()
    for kept in (0, 100, 400, len(content) // 2, len(content) - 60):
        files[2].write_bytes(content[:kept])
        refuses(files, "cut short|cannot be decoded|damaged")


@pytest.mark.parametrize("transfer", [implicit, bytes_swapped, signed, run_length])
@pytest.mark.parametrize("inserted", [4, 6])
def test_bytes_inserted_into_the_pixel_data_s_header(tmp_path: Path, transfer: Edit, inserted: int) -> None:
    files = write_series(tmp_path, transfer)
    content = files[2].read_bytes()
    tag = b"\x7f\xe0\x00\x10" if transfer is bytes_swapped else b"\xe0\x7f\x10\x00"
    place = content.index(tag) + inserted
    files[2].write_bytes(content[:place] + b"\xf8\xc9" + content[place:])
    refuses(files, "damaged|no pixels")


def test_trailing_padding_after_the_pixels_is_fine(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.DataSetTrailingPadding = bytes(50)

    assert np.array_equal(sitk.GetArrayFromImage(read_series(write_series(tmp_path, edit))), hounsfield())
