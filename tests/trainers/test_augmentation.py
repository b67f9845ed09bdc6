import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from unetr_nnunet.trainers.augmentation import (
    POLICIES,
    AugmentationPolicy,
    PatchGeometry,
    intensity_window,
    policy_transforms,
)

CUBE = PatchGeometry((6, 6, 6), (1.0, 1.0, 1.0), (0, 1, 2))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


def augmented(policy, geometry, repetitions, window=4.0):
    """Return pairs of augmented image and segmentation of one patch whose voxels all differ."""
    transform = ComposeTransforms(list(policy_transforms(policy, geometry, window)))
    image = torch.arange(np.prod(geometry.patch_size), dtype=torch.float32).view(1, *geometry.patch_size)
    for _ in range(repetitions):
        done = transform(image=image.clone(), segmentation=image.clone())
        yield done["image"], done["segmentation"], image


@pytest.mark.parametrize("name", POLICIES)
def test_image_and_segmentation_stay_together(name):
    policy = POLICIES[name]
    for image, segmentation, original in augmented(policy, CUBE, 50):
        assert image.shape == original.shape
        if not policy.intensity:
            assert torch.equal(image, segmentation)
        assert torch.equal(segmentation.flatten().sort().values, original.flatten())


def test_each_axis_is_flipped_with_its_probability():
    counts = torch.zeros(3)
    for _image, segmentation, _ in augmented(AugmentationPolicy(flip=0.2), CUBE, 1000):
        corner = segmentation[0, 0, 0, 0].item()
        counts += torch.tensor([corner // 36 > 0, corner // 6 % 6 > 0, corner % 6 > 0])
    assert (counts / 1000 - 0.2).abs().max() < 0.05


def test_only_allowed_axes_are_flipped():
    geometry = PatchGeometry((6, 6, 6), (1.0, 1.0, 1.0), (0, 1))
    for _image, segmentation, original in augmented(POLICIES["FlipOnly"], geometry, 100):
        assert torch.equal(segmentation.diff(dim=3), original.diff(dim=3))


@pytest.mark.parametrize(
    ("geometry", "planes"),
    [
        (CUBE, [(0, 1), (0, 2), (1, 2)]),
        (PatchGeometry((4, 6, 6), (3.0, 0.76, 0.76), ()), [(1, 2)]),
        (PatchGeometry((6, 6, 6), (3.0, 0.76, 0.76), ()), [(1, 2)]),
        (PatchGeometry((4, 6, 8), (1.0, 1.0, 1.0), ()), []),
        (PatchGeometry((6, 6), (1.0, 1.0), ()), [(0, 1)]),
    ],
    ids=str,
)
def test_rotation_keeps_patch_size_and_spacing(geometry, planes):
    assert geometry.square_planes() == planes
    for _image, segmentation, _ in augmented(AugmentationPolicy(flip=0, rotate=1.0), geometry, 20):
        assert segmentation.shape[1:] == geometry.patch_size


def test_intensity_changes_have_the_policys_magnitude():
    policy = AugmentationPolicy(flip=0, intensity=1.0, magnitude=0.1)
    factors, shifts = [], []
    for image, _, _ in augmented(policy, CUBE, 500):
        step = image.flatten().diff().mean().item()
        factors.append(step)
        shifts.append(image[0, 0, 0, 0].item())
    assert min(factors) > 0.9 - 1e-4
    assert max(factors) < 1.1 + 1e-4
    assert np.std(shifts) == pytest.approx(0.1 * 4.0 / 3**0.5, rel=0.15)


def test_the_window_is_nnunets_clipping_range_in_standard_deviations():
    properties = {"0": {"percentile_00_5": -100.0, "percentile_99_5": 300.0, "std": 80.0}}
    assert intensity_window(properties) == 5.0
