"""HD95, ASSD and NSD: values on paper, and those of MONAI, surface-distance and SimpleITK."""

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
import SimpleITK as sitk
from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

from tests.evaluation.label_map_pairs import ANISOTROPIC_MM, PAIRS, LabelMap, Pair
from unetr_nnunet.evaluation.surface_distance import SurfaceFigures, compare_surfaces
from unetr_nnunet.evaluation.surfaces import find_surfaces

Spacing = tuple[float, float, float]
SPACINGS: list[Spacing] = [(1.0, 1.0, 1.0), ANISOTROPIC_MM]
LABELS = range(1, 5)


def compare(truth: LabelMap, prediction: LabelMap, spacing_mm: Spacing, tolerance_mm: float) -> list[SurfaceFigures]:
    """Compare the labels from 1 on; both sides hold each."""
    sides = (find_surfaces(side, int(truth.max())) for side in (truth, prediction))
    return [compare_surfaces(*surfaces, spacing_mm, tolerance_mm) for surfaces in zip(*sides, strict=True)]


def test_two_voxels() -> None:
    truth, prediction = np.zeros((2, 4, 5, 6), np.uint8)
    truth[0, 0, 0] = prediction[2, 1, 4] = 1
    (figures,) = compare(truth, prediction, (3.0, 4.0, 2.0), 1)
    distance = (6**2 + 4**2 + 8**2) ** 0.5
    assert figures.hd95_mm == pytest.approx(distance, abs=1e-12)
    assert figures.assd_mm == pytest.approx(distance, abs=1e-12)
    assert figures.nsd == 0


def test_rows_of_ten_and_eleven_voxels() -> None:
    truth, prediction = np.zeros((2, 3, 3, 14), np.uint8)
    truth[1, 1, 2:12], prediction[1, 1, 2:13] = 1, 1
    (figures,) = compare(truth, prediction, (5.0, 5.0, 2.0), 1)
    assert figures.hd95_mm == pytest.approx(1, abs=1e-12)  # ten zeros and 2 mm: halfway between the last two
    assert figures.assd_mm == pytest.approx(2 / 21, abs=1e-12)


def test_surface_dice_of_one_and_two_voxels() -> None:
    """Around one voxel, each of eight corners is cut by a triangle between the middles of three edges.

    Around a pair, the four corners between its voxels are cut by squares' halves instead, 1 long and 1/sqrt(2) wide.
    All of the voxel's corners agree with the pair, and of the pair's corners all but the four farthest.
    """
    truth, prediction = np.zeros((2, 3, 3, 4), np.uint8)
    truth[1, 1, 1], prediction[1, 1, 1:3] = 1, 1
    triangle, bevel = 3**0.5 / 8, 2**0.5 / 2
    expected = (8 * triangle + 4 * triangle + 4 * bevel) / (8 * triangle + 8 * triangle + 4 * bevel)
    assert compare(truth, prediction, (1, 1, 1), 0)[0].nsd == pytest.approx(expected, abs=1e-12)
    assert compare(truth, prediction, (1, 1, 1), 1)[0].nsd == 1


def test_surface_dice_weighs_by_area() -> None:
    """Two plates, one a slice higher: with 0.01 mm slices their rims vanish beside the faces, of which half agree."""
    truth, prediction = np.zeros((2, 4, 42, 42), np.uint8)
    truth[1:3, 1:41, 1:41], prediction[1:4, 1:41, 1:41] = 1, 1
    thick, thin = (compare(truth, prediction, (size, 1, 1), 0)[0].nsd for size in (40.0, 0.01))
    assert thin == pytest.approx(1 / 2, abs=0.02)
    assert thick > 0.75


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI 1.6.1, of its own call
@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("pair", PAIRS)
def test_equals_monai(pair: Callable[[], Pair], spacing_mm: Spacing) -> None:
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    truth, prediction = pair()
    one_hot = [
        torch.stack([torch.from_numpy(side == label) for label in range(5)])[None] for side in (prediction, truth)
    ]
    hd95 = metrics.compute_hausdorff_distance(*one_hot, percentile=95, spacing=spacing_mm)[0]
    assd = metrics.compute_average_surface_distance(*one_hot, symmetric=True, spacing=spacing_mm)[0]
    nsd = metrics.compute_surface_dice(*one_hot, [1.0] * 4, spacing=spacing_mm, use_subvoxels=True)[0]
    ours = compare(truth, prediction, spacing_mm, 1)
    assert [figures.hd95_mm for figures in ours] == pytest.approx(hd95.tolist(), abs=1e-3)
    assert [figures.assd_mm for figures in ours] == pytest.approx(assd.tolist(), abs=1e-3)
    assert [figures.nsd for figures in ours] == pytest.approx(nsd.tolist(), abs=1e-5)


@pytest.mark.filterwarnings("ignore:Please import .correlate.:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Please import .distance_transform_edt.:DeprecationWarning")
@pytest.mark.parametrize("tolerance_mm", [0, 0.9, 3])  # the last two are exact multiples of a spacing
@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("pair", PAIRS)
def test_surface_dice_equals_its_authors(pair: Callable[[], Pair], spacing_mm: Spacing, tolerance_mm: float) -> None:
    truth, prediction = pair()
    ours = compare(truth, prediction, spacing_mm, tolerance_mm)
    for label, figures in zip(LABELS, ours, strict=True):
        sides = (np.pad(side == label, 1) for side in (truth, prediction))
        theirs = compute_surface_dice_at_tolerance(compute_surface_distances(*sides, spacing_mm), tolerance_mm)
        assert figures.nsd == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_equals_simpleitk_distance_maps(pair: Callable[[], Pair]) -> None:
    truth, prediction = pair()
    for label, figures in zip(LABELS, compare(truth, prediction, ANISOTROPIC_MM, 1), strict=True):
        contours = []
        for side in (truth, prediction):
            image = sitk.GetImageFromArray(np.pad(side == label, 1).astype(np.uint8))
            image.SetSpacing(ANISOTROPIC_MM[::-1])
            contours.append(sitk.BinaryContour(image, fullyConnected=False))
        there, back = (
            sitk.GetArrayFromImage(sitk.Abs(sitk.SignedMaurerDistanceMap(there, False, False, True)))[
                sitk.GetArrayFromImage(here) > 0
            ]
            for here, there in (contours, contours[::-1])
        )
        assert figures.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-3)
        assert figures.assd_mm == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-3)


def test_does_not_depend_on_where_the_image_was_cut() -> None:
    truth, prediction = PAIRS[1]()
    inside = [np.pad(side, ((3, 2), (0, 4), (5, 1))) for side in (truth, prediction)]
    pairs = zip(compare(*inside, ANISOTROPIC_MM, 1), compare(truth, prediction, ANISOTROPIC_MM, 1), strict=True)
    for there, here in pairs:
        assert astuple(there) == pytest.approx(astuple(here), abs=1e-9)
