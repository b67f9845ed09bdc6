import numpy as np
import pytest

from unetr_nnunet.phantom.anatomy import (
    GALLBLADDER_ABSENT_SHARE,
    draw_organs,
    draws_gallbladder,
    spine_y_mm,
)


@pytest.fixture(scope="module")
def patients():
    return [draw_organs(np.random.default_rng(seed)) for seed in range(20)]


def middle(shape):
    return shape.bounds_mm.mean(0)


def test_the_first_draw_decides_about_the_gallbladder(patients):
    for seed, organs in enumerate(patients):
        assert (organs.gallbladder is not None) == draws_gallbladder(np.random.default_rng(seed))
    kept = [draws_gallbladder(np.random.default_rng(seed)) for seed in range(1000)]
    assert np.mean(kept) == pytest.approx(1 - GALLBLADDER_ABSENT_SHARE, abs=0.03)


def test_organs_lie_on_their_side(patients):
    for organs in patients:  # x grows to the left, z to the head
        assert (
            middle(organs.liver)[0] < middle(organs.vena_cava)[0] < middle(organs.aorta)[0] < middle(organs.spleen)[0]
        )
        assert middle(organs.right_kidney.outline)[0] < 0 < middle(organs.left_kidney.outline)[0]
        for adrenal, kidney in ((organs.right_adrenal, organs.right_kidney), (organs.left_adrenal, organs.left_kidney)):
            assert middle(adrenal)[2] > middle(kidney.outline)[2]


def test_a_kidney_holds_its_sinus(patients):
    for organs in patients:
        for kidney in (organs.right_kidney, organs.left_kidney):
            reach = kidney.outline.bounds_mm
            assert (reach[0] < kidney.center).all()
            assert (kidney.center < reach[1]).all()
            assert ((reach[0] < middle(kidney.sinus)) & (middle(kidney.sinus) < reach[1])).all()


def test_the_lumbar_spine_curves_forward():
    heights = np.array([-60.0, 0.0, 150.0])
    lumbar_low, lumbar, thoracic = spine_y_mm(heights)
    assert lumbar < thoracic
    assert np.isfinite(lumbar_low)
