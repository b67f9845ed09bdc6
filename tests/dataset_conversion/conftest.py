"""A tiny BTCV download, written with SimpleITK, that a test can damage in one place."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

SHAPE_ZYX = (4, 16, 18)
ALL_ORGANS = np.arange(14)


class BtcvTree:
    """``root/RawData/Training/{img,label}`` and ``root/RawData/Testing/img``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw = root / "RawData"

    def image_path(self, number: int) -> Path:
        return self.raw / ("Testing" if number > 60 else "Training") / "img" / f"img{number:04d}.nii.gz"

    def label_path(self, number: int) -> Path:
        return self.raw / ("Testing" if number > 60 else "Training") / "label" / f"label{number:04d}.nii.gz"

    @staticmethod
    def write(path: Path, voxels, spacing=(0.8, 0.8, 3.0), origin=(-50.0, 40.0, 10.0), direction=None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        if direction is not None:
            image.SetDirection(direction)
        sitk.WriteImage(image, str(path))

    def image_voxels(self, number: int) -> np.ndarray:
        """(Z, Y, X) int16, air to bone."""
        voxels = np.random.default_rng(number).integers(-1000, 1200, SHAPE_ZYX).astype(np.int16)
        voxels.flat[:2] = -1000, 900
        return voxels

    def label_voxels(self, number: int) -> np.ndarray:
        """(Z, Y, X) uint8 in which every organ occurs."""
        voxels = np.random.default_rng(1000 + number).integers(0, 14, SHAPE_ZYX).astype(np.uint8)
        voxels.flat[: len(ALL_ORGANS)] = ALL_ORGANS
        return voxels

    def add(self, *numbers: int) -> "BtcvTree":
        for number in numbers:
            self.write(self.image_path(number), self.image_voxels(number))
            if number <= 60:
                self.write(self.label_path(number), self.label_voxels(number))
        return self

    def add_all_training(self) -> "BtcvTree":
        return self.add(*range(1, 11), *range(21, 41))

    def zip(self, prefix: str = "") -> Path:
        archive_path = self.root / "RawData.zip"
        with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(self.raw.rglob("*.nii.gz")):
                archive.write(file, prefix + str(file.relative_to(self.root)))
        return archive_path


def edit_nifti_bytes(path: Path, position: int, content: bytes) -> None:
    """Overwrite bytes of the uncompressed NIfTI file."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[position : position + len(content)] = content
    path.write_bytes(gzip.compress(bytes(data)))


@pytest.fixture
def empty_tree(tmp_path):
    return BtcvTree(tmp_path / "download")


@pytest.fixture
def btcv_tree(empty_tree):
    """Training cases 1, 2, 21 and test case 61."""
    return empty_tree.add(1, 2, 21, 61)


@pytest.fixture
def nifti_bytes():
    return edit_nifti_bytes
