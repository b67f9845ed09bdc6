"""Ways to encode the pixels of a hand-made DICOM slice."""

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.images.scans import STORED_MINUS_HU, stored


def signed(number: int, dataset: pydicom.Dataset) -> None:
    dataset.PixelData = (stored(dataset).astype(np.int16) - STORED_MINUS_HU).astype("<i2").tobytes()
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0


def bytes_swapped(number: int, dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = stored(dataset).astype(">u2").tobytes()


def implicit(number: int, dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def deflated(number: int, dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def run_length(number: int, dataset: pydicom.Dataset) -> None:
    dataset.compress(RLELossless)


def jpeg_ls(number: int, dataset: pydicom.Dataset) -> None:
    dataset.compress(JPEGLSLossless)


def encoded(dataset: pydicom.Dataset, syntax: str, frame: bytes) -> None:
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax


def jpeg_lossless(number: int, dataset: pydicom.Dataset) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    frame = imagecodecs.jpeg_encode(stored(dataset), lossless=True, bitspersample=16, predictor=1)
    encoded(dataset, JPEGLosslessSV1, frame)


def jpeg_2000(number: int, dataset: pydicom.Dataset) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    encoded(dataset, JPEG2000Lossless, imagecodecs.jpeg2k_encode(stored(dataset), codecformat="j2k", reversible=True))


COMPRESSED = [run_length, jpeg_ls, jpeg_lossless, jpeg_2000]
