"""A tiny BTCV download, written with SimpleITK, that a test can damage in one place."""

import copy
import gzip
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.conftest import write_blob_dataset
from tests.dataset_conversion.conversions import conversion_of
from tests.dataset_conversion.other_trees import TREES

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
def conversion(btcv_tree, tmp_path):
    return conversion_of("btcv", btcv_tree.raw, tmp_path / "raw")


@pytest.fixture
def nifti_bytes():
    return edit_nifti_bytes


@pytest.fixture(scope="session")
def written_trees(tmp_path_factory):
    """The trees of all data sets besides BTCV by command; tests leave them as they are."""
    return {command: tree(tmp_path_factory.mktemp(command)).write() for command, tree in TREES.items()}


@pytest.fixture(params=TREES)
def written_tree(request, written_trees):
    """The tree of one data set; a test leaves it as it is."""
    return written_trees[request.param]


@pytest.fixture
def tree(written_tree, tmp_path):
    """A copy of the tree of one data set, to be damaged."""
    return copy_of(written_tree, tmp_path / "download")


@pytest.fixture
def copied(written_trees, tmp_path):
    """Make a copy of the tree of a data set, to be damaged."""
    return lambda command: copy_of(written_trees[command], tmp_path / "download")


def copy_of(tree, root):
    copied = copy.copy(tree)
    copied.root, copied.folder = root, root / tree.folder.name
    shutil.copytree(tree.folder, copied.folder)
    return copied


@pytest.fixture
def raw(tmp_path):
    """Five cases, two labels, one channel."""
    return write_blob_dataset(tmp_path / "raw")
