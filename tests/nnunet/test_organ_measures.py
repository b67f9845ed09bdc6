import math

import numpy as np
import pytest

from unetr_nnunet.nnunet.organ_measures import Intensities, axis_ends, ct_intensities, measure_organs

SPACING = (4.0, 2.0, 1.0)


def block(*box: tuple[int, int], value: int = 1) -> np.ndarray:
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[tuple(slice(*side) for side in box)] = value
    return labels


def test_volume_parts_and_mean_of_a_block() -> None:
    labels = block((5, 10), (10, 20), (20, 40))
    values = np.full(labels.shape, 7.0, np.float32)
    values[labels > 0] = 0.5
    measures = measure_organs(labels, {"organ": (1,), "absent": (2,)}, SPACING, None, Intensities(values, 40.0, 20.0))
    assert list(measures) == ["organ"]
    assert measures["organ"].volume_ml == pytest.approx(5 * 10 * 20 * 8 / 1000)
    assert measures["organ"].mean_hu == pytest.approx(50)
    assert measures["organ"].parts == 1
    assert measures["organ"].place_mm is None


def test_a_second_part_counts_a_speck_does_not() -> None:
    labels = block((5, 10), (10, 20), (20, 30))  # 500 voxels
    labels[15, 0:5, 0:5] = 1  # 25: below a twentieth
    assert measure_organs(labels, {"organ": (1,)}, SPACING)["organ"].parts == 1
    labels[15, 0:5, 5:9] = 1
    assert measure_organs(labels, {"organ": (1,)}, SPACING)["organ"].parts == 2


def test_a_place_grows_to_left_back_and_head() -> None:
    low, high = ((2, 4), (2, 4), (2, 4)), ((12, 14), (12, 14), (12, 14))
    labels = np.maximum(block(*low), block(*high, value=2))
    for ends, signs in (("SPL", (1, 1, 1)), ("IPR", (-1, 1, -1)), ("SAL", (1, -1, 1))):
        measures = measure_organs(labels, {"a": (1,), "b": (2,)}, SPACING, ends)
        difference = np.subtract(measures["b"].place_mm, measures["a"].place_mm)
        assert difference == pytest.approx(np.multiply(signs, (10, 20, 40)))


def test_axes_are_named_after_the_transposition() -> None:
    assert axis_ends("RAS", (0, 1, 2)) == "SAR"
    assert axis_ends("LPS", (2, 0, 1)) == "LSP"


@pytest.mark.parametrize(("box", "sides", "border_mm"), [
    (((0, 5), (10, 20), (10, 20)), ((True, True),) * 3, 0),
    (((15, 20), (10, 20), (10, 20)), ((True, True),) * 3, 0),
    (((15, 20), (10, 20), (10, 20)), ((True, False), (True, True), (True, True)), 10),
    (((5, 10), (10, 20), (30, 40)), ((True, True),) * 3, 0),
    (((5, 10), (10, 20), (30, 38)), ((True, True),) * 3, 2),
    (((5, 10), (10, 20), (30, 38)), ((False, True), (False, False), (False, False)), 40),
    (((5, 10), (10, 20), (30, 38)), ((False, False),) * 3, math.inf),
])  # fmt: skip
def test_the_border_of_the_image(box: tuple, sides: tuple, border_mm: float) -> None:
    organ = measure_organs(block(*box), {"organ": (1,)}, SPACING, sides=sides)["organ"]
    assert min(organ.border_mm) == border_mm
    assert organ.at_border is (border_mm == 0)


def test_the_distance_to_each_side() -> None:
    box = ((5, 10), (10, 20), (30, 38))
    measures = measure_organs(block(*box), {"organ": (1,)}, SPACING, sides=((True, True), (False, True), (True, True)))
    assert measures["organ"].border_mm == (20, 40, math.inf, 20, 30, 2)


def test_a_speck_at_the_border_does_not_reach_it() -> None:
    labels = block((5, 10), (10, 20), (20, 30))
    labels[0, 0, 0] = 1
    assert not measure_organs(labels, {"organ": (1,)}, SPACING)["organ"].at_border


def test_a_region_has_the_voxels_of_all_its_labels() -> None:
    labels = block((5, 10), (10, 20), (20, 30)).astype(np.int8)
    labels[5:10, 10:20, 30:35] = 2
    labels[0] = -1  # outside of what was annotated
    measures = measure_organs(labels, {"whole": (1, 2), "core": (2,)}, (1, 1, 1))
    assert measures["whole"].volume_ml == pytest.approx(0.75)
    assert measures["whole"].parts == 1
    assert measures["core"].volume_ml == pytest.approx(0.25)


def test_hu_only_where_a_ct_was_normalised_as_one() -> None:
    plans = {"foreground_intensity_properties_per_channel": {"0": {"mean": 80.0, "std": 25.0}}}
    values = np.zeros((2, 2, 2), np.float32)
    intensities = ct_intensities(values, plans, "CTNormalization")
    assert intensities is not None
    assert (intensities.mean_hu, intensities.std_hu) == (80.0, 25.0)
    assert ct_intensities(values, plans, "ZScoreNormalization") is None
    assert ct_intensities(values, {}, "CTNormalization") is None


def test_a_tip_at_the_border_is_not_cut_off() -> None:
    labels = block((1, 10), (10, 20), (20, 30))
    labels[0, 10:13, 20:23] = 1  # 9 of 100 voxels
    assert measure_organs(labels, {"organ": (1,)}, SPACING)["organ"].border_mm[0] == SPACING[0]
    labels[0, 13, 20] = 1
    assert measure_organs(labels, {"organ": (1,)}, SPACING)["organ"].at_border
