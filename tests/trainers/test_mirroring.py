from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from unetr_nnunet.trainers.mirroring import common_left_right_axis, left_right_axis, spatial_axes_without


def write_ramp(path: Path, orientation: str) -> None:
    """Write a volume whose value grows from the patient's right to the left, stored in some orientation."""
    image = sitk.GetImageFromArray(np.broadcast_to(np.arange(6.0), (4, 5, 6)).astype(np.float32))
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))


@pytest.mark.parametrize("reader", [NibabelIO, NibabelIOWithReorient, SimpleITKIO])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SLP", "AIR"])
@pytest.mark.parametrize("transpose_forward", [(0, 1, 2), (2, 0, 1)])
def test_the_axis_is_where_the_data_changes(
    tmp_path: Path, reader: Any, orientation: str, transpose_forward: tuple[int, ...]
) -> None:
    write_ramp(tmp_path / "ramp.nii.gz", orientation)
    array, properties = reader().read_images([str(tmp_path / "ramp.nii.gz")])
    preprocessed = array[0].transpose(transpose_forward)
    steps = [np.abs(np.diff(preprocessed, axis=axis)).max() for axis in range(3)]
    assert left_right_axis(properties, transpose_forward) == int(np.argmax(steps))


def test_cases_that_disagree_are_named() -> None:
    identity = {"sitk_stuff": {"direction": tuple(np.eye(3).ravel())}}
    turned = {"sitk_stuff": {"direction": tuple(np.eye(3)[[2, 1, 0]].ravel())}}
    assert common_left_right_axis([("a", identity), ("b", identity)], (0, 1, 2)) == 2
    with pytest.raises(ValueError, match=r"axis 0 in b, axis 2 in a.*NibabelIOWithReorient"):
        common_left_right_axis([("a", identity), ("b", turned)], (0, 1, 2))


def test_a_reader_without_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="left and right are unknown"):
        left_right_axis({"spacing": [1, 1, 1]}, (0, 1, 2))


def test_two_dimensional_patches_lie_in_the_last_two_axes() -> None:
    assert spatial_axes_without(2, (0, 1, 2), 3) == (0, 1)
    assert spatial_axes_without(2, (0, 1), 2) == (0,)
    assert spatial_axes_without(0, (0, 1), 2) == (0, 1)


@pytest.mark.parametrize(("token", "axes"), [("", (0, 1, 2)), ("_NoLRFlip", (0, 1))])
def test_the_trainer_mirrors_accordingly_in_training_and_prediction(
    make_trainer: Callable[..., Any], token: str, axes: tuple[int, ...]
) -> None:
    trainer = make_trainer(f"nnUNetTrainerUNETR_Tiny{token}_seed0")
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    transforms = training.data_loader.data_loader.transforms.transforms
    mirror = next(transform for transform in transforms if type(transform).__name__ == "MirrorTransform")
    assert tuple(mirror.allowed_axes) == axes
    assert trainer.inference_allowed_mirroring_axes == axes
