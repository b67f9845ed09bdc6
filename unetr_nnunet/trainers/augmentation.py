"""The augmentation policies of the study as data, and their transforms from batchgeneratorsv2.

The study varies the augmentation of the UNETR repository (https://github.com/Project-MONAI/research-contributions):
random flips and rotations by 90 degrees with probability 0.2, scaled and shifted intensity with probability 0.1 and
magnitude 0.1, and crops of which half are centred on foreground. It names its policies but gives no figures for them;
`POLICIES` holds what we chose, and ``docs/reference/augmentation.md`` explains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isclose, sqrt
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform,
    MultiplicativeBrightnessTransform,
)
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

FOREGROUND_SHARE = 0.5
"""Share of patches centred on foreground: one positive to one negative, as in the UNETR repository."""


@dataclass(frozen=True)
class AugmentationPolicy:
    """How often and how strongly a patch is changed.

    Attributes:
        flip: probability of a flip along each axis.
        rotate: probability of a rotation by 90, 180 or 270 degrees in each possible plane.
        intensity: probability of a scaling, and independently of a shift, of the intensity.
        magnitude: largest change of the scaling's factor, and of the shift as a fraction of the intensity window.
    """

    flip: float
    rotate: float = 0.0
    intensity: float = 0.0
    magnitude: float = 0.0


POLICIES: dict[str, AugmentationPolicy] = {
    "Baseline": AugmentationPolicy(flip=0.2, rotate=0.2, intensity=0.1, magnitude=0.1),
    "LightAug": AugmentationPolicy(flip=0.1, rotate=0.1, intensity=0.05, magnitude=0.05),
    "StrongAug": AugmentationPolicy(flip=0.5, rotate=0.5, intensity=0.5, magnitude=0.2),
    "NoIntensity": AugmentationPolicy(flip=0.2, rotate=0.2),
    "FlipOnly": AugmentationPolicy(flip=0.2),
    "NoAug": AugmentationPolicy(flip=0.0),
}


@dataclass(frozen=True)
class PatchGeometry:
    """What decides which flips and rotations keep the patch a patch.

    Attributes:
        patch_size: voxels per axis.
        spacing_mm: voxel spacing per axis.
        mirror_axes: axes along which the patch may be flipped.
    """

    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    mirror_axes: tuple[int, ...]

    def square_planes(self) -> list[tuple[int, int]]:
        """Return the pairs of axes in which a rotation by 90 degrees changes neither patch size nor spacing."""
        return [
            (first, second)
            for first, second in combinations(range(len(self.patch_size)), 2)
            if self.patch_size[first] == self.patch_size[second]
            and isclose(self.spacing_mm[first], self.spacing_mm[second], rel_tol=0.01)
        ]


def intensity_window(properties: Mapping[str, Mapping[str, float]]) -> float:
    """Return the width of nnU-Net's CT window after normalisation.

    Args:
        properties: ``foreground_intensity_properties_per_channel`` of the plans.

    Returns:
        From the 0.5 to the 99.5 percentile, in standard deviations; the mean over the channels.
    """
    widths = [
        (channel["percentile_99_5"] - channel["percentile_00_5"]) / max(channel["std"], 1e-8)
        for channel in properties.values()
    ]
    return sum(widths) / len(widths)


def policy_transforms(policy: AugmentationPolicy, geometry: PatchGeometry, window: float) -> Sequence[BasicTransform]:
    """Return the transforms of a policy.

    Args:
        policy: one of `POLICIES`.
        geometry: of the patch.
        window: width of the intensity window in normalised units; see `intensity_window`.
    """
    transforms: list[BasicTransform] = []
    if policy.flip:  # MirrorTransform itself flips each axis it is given every other time
        transforms += [
            _sometimes(MirrorTransform(allowed_axes=(axis,)), 2 * policy.flip) for axis in geometry.mirror_axes
        ]
    if policy.rotate:
        transforms += [
            _sometimes(Rot90Transform(num_axis_combinations=1, allowed_axes=set(plane)), policy.rotate)
            for plane in geometry.square_planes()
        ]
    if policy.intensity:
        factors = (1 - policy.magnitude, 1 + policy.magnitude)
        scale = MultiplicativeBrightnessTransform(multiplier_range=factors, synchronize_channels=False)
        # a normal distribution with the standard deviation of the source's uniform one
        deviation = policy.magnitude * window / sqrt(3)
        shift = BrightnessAdditiveTransform(mu=0.0, sigma=deviation, synchronize_channels=False)
        transforms += [_sometimes(scale, policy.intensity), _sometimes(shift, policy.intensity)]
    return transforms


def _sometimes(transform: Any, probability: float) -> RandomTransform:
    return RandomTransform(transform, apply_probability=probability)
