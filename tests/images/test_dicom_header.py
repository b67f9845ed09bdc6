import math
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from tests.images.scans import ORIGIN_MM, SHAPE_ZYX, SPACING_MM, write_series
from unetr_nnunet.images.dicom_header import is_dicom, read_header

PIXEL_BYTES = SHAPE_ZYX[1] * SHAPE_ZYX[2] * 2


def test_what_pydicom_wrote(tmp_path: Path) -> None:
    uid = "1.2.3.4"
    path = write_series(tmp_path, uid=uid)[1]
    header = read_header(path)
    assert (header.path, header.series_uid, header.series_number, header.modality) == (path, uid, "3", "CT")
    assert header.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert (header.rows, header.columns, header.samples, header.frames) == (*SHAPE_ZYX[1:], 1, 1)
    assert (header.bits, header.is_signed, header.photometric) == (16, False, "MONOCHROME2")
    assert header.rescale == (1, -1024)
    assert header.spacing_mm == (SPACING_MM[1], SPACING_MM[0])
    assert header.thickness_mm == SPACING_MM[2]
    assert header.orientation == (1, 0, 0, 0, 1, 0)
    assert header.position_mm == (*ORIGIN_MM[:2], ORIGIN_MM[2] + SPACING_MM[2])
    assert not header.is_compressed
    assert header.pixel_bytes == PIXEL_BYTES
    assert PIXEL_BYTES < header.data_bytes <= PIXEL_BYTES + 12


def test_what_is_absent_or_no_number(tmp_path: Path) -> None:
    def strip(number: int, dataset: pydicom.Dataset) -> None:
        for keyword in ("SeriesNumber", "Modality", "ImageType", "Rows", "BitsAllocated", "ImagePositionPatient"):
            delattr(dataset, keyword)
        del dataset.PixelData, dataset.SliceThickness
        dataset.PixelSpacing = [1]
        dataset.RescaleSlope = None
        dataset.add_new("RescaleIntercept", "LO", "none")

    path = write_series(tmp_path, strip)[0]
    header = read_header(path)
    assert (header.series_number, header.modality, header.image_type) == ("", "", ())
    assert (header.rows, header.bits, header.thickness_mm) == (0, 0, 0)
    assert (header.spacing_mm, header.position_mm) == ((), ())
    assert header.rescale[0] == 1
    assert header.data_bytes == 0


def test_compressed_and_deflated(tmp_path: Path) -> None:
    def compress(number: int, dataset: pydicom.Dataset) -> None:
        if number == 0:
            dataset.compress(RLELossless)
        else:
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    for path in write_series(tmp_path, compress)[:2]:
        header = read_header(path)
        assert header.is_compressed
        assert header.data_bytes > 0


def test_a_file_without_dicom_s_mark(tmp_path: Path) -> None:
    path = write_series(tmp_path)[0]
    assert is_dicom(path)
    assert is_dicom(path.rename(tmp_path / "no_ending"))
    dataset = pydicom.dcmread(tmp_path / "no_ending")
    del dataset.file_meta
    dataset.preamble = None
    bare = tmp_path / "bare.dcm"
    pydicom.dcmwrite(bare, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert bare.read_bytes()[128:132] != b"DICM"
    assert is_dicom(bare)
    assert read_header(bare).rows == SHAPE_ZYX[1]
    assert not is_dicom(bare.rename(tmp_path / "bare.txt"))


@pytest.mark.parametrize("content", [b"", b"hello", bytes(2000), b"\xff" * 2000])
def test_no_dicom_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.dcm is not a DICOM file, or damaged: .") as caught:
        read_header(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_no_bad_value(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "a.dcm")


def test_a_rescale_that_is_no_number(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope = "1234.5"

    path = write_series(tmp_path, edit)[0]
    for slope in (b"inf   ", b"one   "):
        path.write_bytes(path.read_bytes().replace(b"1234.5", slope).replace(b"inf   ", slope))
        assert math.isnan(read_header(path).rescale[0])
