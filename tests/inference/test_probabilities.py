import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.ensembling.ensemble import ensemble_folders, merge_files
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from unetr_nnunet.inference.probabilities import reader_orientation, reader_properties, write_probabilities

READERS = [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient]
ORIENTATIONS = ["LPS", "RAS", "LAI", "PIR", "SAL", "oblique"]
LABELS = {"background": 0, "liver": 1, "spleen": 2}


def ct(orientation: str) -> sitk.Image:
    voxels = np.random.default_rng(1).normal(0, 300, (4, 5, 6)).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.71, 0.82, 3.0))
    image.SetOrigin((-120.5, 37.25, -900.125))
    if orientation == "oblique":
        rotation = sitk.Euler3DTransform()
        rotation.SetRotation(0.2, -0.3, 2.0)
        image.SetDirection(rotation.GetMatrix())
    else:
        image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(orientation))
    return image


def written(image: sitk.Image, path: Path) -> sitk.Image:
    sitk.WriteImage(image, str(path))
    return sitk.ReadImage(str(path))


def softmax(shape: tuple[int, ...], seed: int) -> np.ndarray:
    values = np.exp(np.random.default_rng(seed).normal(size=(3, *shape))).astype(np.float32)
    return values / values.sum(axis=0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("reader", READERS)
def test_properties_are_those_that_the_reader_stores(tmp_path: Path, reader: type, orientation: str) -> None:
    image = written(ct(orientation), tmp_path / "ct.nii.gz")
    array, expected = reader().read_images([str(tmp_path / "ct.nii.gz")])
    ours = reader_properties(reader, image)
    assert ours.keys() == expected.keys()
    assert np.allclose(ours["spacing"], expected["spacing"], rtol=1e-6)
    assert type(ours["spacing"]) is list
    for stuff in ours.keys() - {"spacing"}:
        assert ours[stuff].keys() == expected[stuff].keys()
        for key, value in ours[stuff].items():
            if isinstance(value, str):
                assert value == expected[stuff][key]
            else:
                assert np.allclose(value, expected[stuff][key], rtol=1e-6, atol=1e-4), key
    oriented = sitk.DICOMOrient(image, reader_orientation(reader, image))
    assert np.array_equal(sitk.GetArrayFromImage(oriented), array[0]), "arrays have these axes"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("reader", READERS)
def test_nnunets_ensemble_writes_the_labels_of_the_mean_in_place(
    tmp_path: Path, reader: type, orientation: str
) -> None:
    image = written(ct(orientation), tmp_path / "ct.nii.gz")
    oriented = sitk.DICOMOrient(image, reader_orientation(reader, image))
    models = [softmax(oriented.GetSize()[::-1], seed) for seed in (1, 2)]
    files = []
    for number, probabilities in enumerate(models):
        stem = tmp_path / f"model_{number}" / "case.1"
        write_probabilities(stem, probabilities, reader_properties(reader, image))
        files.append(f"{stem}.npz")
        assert sorted(path.name for path in stem.parent.iterdir()) == ["case.1.npz", "case.1.pkl"]
    merge_files(files, str(tmp_path / "merged"), ".nii.gz", reader(), LabelManager(LABELS, None))
    merged = sitk.ReadImage(str(tmp_path / "merged.nii.gz"))
    for name in ("Size", "Spacing", "Origin", "Direction"):
        assert np.allclose(getattr(merged, f"Get{name}")(), getattr(image, f"Get{name}")(), atol=1e-4), name
    halves = [probabilities.astype(np.float16).astype(np.float32) for probabilities in models]
    expected = sitk.GetImageFromArray(((halves[0] + halves[1]) / 2).argmax(axis=0).astype(np.uint8))
    expected.CopyInformation(oriented)
    for index in itertools.product(*map(range, oriented.GetSize())):
        voxel = merged.TransformPhysicalPointToIndex(oriented.TransformIndexToPhysicalPoint(index))
        assert merged[voxel] == expected[index]


@pytest.mark.slow
def test_the_ensemble_command_reads_our_folders(tmp_path: Path) -> None:
    image = ct("RAS")
    models = [softmax(image.GetSize()[::-1], seed) for seed in (1, 2, 3)]
    for number, probabilities in enumerate(models):
        write_probabilities(tmp_path / f"{number}" / "case", probabilities, reader_properties(SimpleITKIO, image))
    dataset = {"labels": LABELS, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
    (tmp_path / "0" / "dataset.json").write_text(json.dumps(dataset))
    plans = {"image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager", "configurations": {}}
    (tmp_path / "0" / "plans.json").write_text(json.dumps(plans))
    ensemble_folders([str(tmp_path / str(number)) for number in range(3)], str(tmp_path / "out"), num_processes=1)
    mean = np.mean([probabilities.astype(np.float16).astype(np.float32) for probabilities in models], axis=0)
    merged = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "case.nii.gz")))
    assert np.array_equal(merged, mean.argmax(axis=0))


@pytest.mark.parametrize("layout", ["plain", "transposed", "float16", "memmap"])
def test_the_array_is_float16_and_in_order(tmp_path: Path, layout: str) -> None:
    probabilities: Any = softmax((4, 5, 6), 1)
    if layout == "transposed":
        probabilities = np.asfortranarray(probabilities)
    elif layout == "float16":
        probabilities = probabilities.astype(np.float16)
    elif layout == "memmap":
        probabilities.tofile(tmp_path / "raw")
        probabilities = np.memmap(tmp_path / "raw", np.float32, "r", shape=probabilities.shape)
    write_probabilities(tmp_path / "case", probabilities, {"spacing": [1.0, 1.0, 1.0]})
    with np.load(tmp_path / "case.npz") as archive:
        assert archive.files == ["probabilities"]
        read = archive["probabilities"]
    assert read.dtype == np.float16
    assert np.array_equal(read, np.asarray(probabilities).astype(np.float16))
    assert pickle.loads((tmp_path / "case.pkl").read_bytes()) == {"spacing": [1.0, 1.0, 1.0]}


def test_a_failed_write_leaves_no_array(tmp_path: Path) -> None:
    class Broken(np.ndarray):
        def __iter__(self) -> Any:
            yield self[0]
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_probabilities(tmp_path / "case", softmax((4, 5, 6), 1).view(Broken), {})
    assert [path.name for path in tmp_path.iterdir()] == ["case.pkl"]


def test_a_reader_of_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be saved for the image reader NaturalImage2DIO"):
        reader_properties(NaturalImage2DIO, ct("LPS"))


def test_an_image_of_another_format_has_the_same_place(tmp_path: Path) -> None:
    """nnU-Net's nibabel readers read no NRRD; their ``write_seg`` still puts the mask where the image is."""
    image = written(ct("PIR"), tmp_path / "ct.nrrd")
    properties = reader_properties(NibabelIO, image)
    labels = np.zeros(image.GetSize()[::-1], np.uint8)
    labels[1, 2, 3] = 1
    NibabelIO().write_seg(labels, str(tmp_path / "mask.nii.gz"), properties)
    affine = nibabel.load(tmp_path / "mask.nii.gz").affine
    assert np.allclose(
        (affine @ (3, 2, 1, 1))[:3] * (-1, -1, 1), image.TransformIndexToPhysicalPoint((3, 2, 1)), atol=1e-3
    )
