import nibabel
import numpy as np
import pytest

from unetr_nnunet.phantom.acquisition import Acquisition, Posture, draw_acquisition, draw_noise


def test_full_size_stays_in_btcv_range():
    rng = np.random.default_rng(1)
    drawn = [draw_acquisition(rng, "full", width) for width in rng.uniform(280, 380, 200)]
    for scan in drawn:
        assert scan.shape[1:] == (512, 512)
        assert 85 <= scan.shape[0] <= 198
        assert 2.5 <= scan.spacing_mm[0] <= 5.0
        assert 0.54 <= scan.spacing_mm[1] == scan.spacing_mm[2] <= 0.98
    assert 110 <= np.median([scan.shape[0] for scan in drawn]) <= 150
    share = np.mean([scan.orientation == "RAS" for scan in drawn])
    assert 0.4 < share < 0.6


def test_smaller_sizes():
    half = draw_acquisition(np.random.default_rng(2), "half", 320)
    full = draw_acquisition(np.random.default_rng(2), "full", 320)
    demo = draw_acquisition(np.random.default_rng(2), "demo", 320)
    assert half.shape == (full.shape[0], 256, 256)
    assert half.spacing_mm[1] == pytest.approx(2 * full.spacing_mm[1], abs=1e-3)
    assert demo.shape[1:] == (112, 112)
    assert 46 <= demo.shape[0] <= 52
    with pytest.raises(ValueError, match="'huge'; choose one of demo, half, full"):
        draw_acquisition(np.random.default_rng(2), "huge", 320)


def test_both_orientations_put_the_same_point_at_the_same_place():
    first_mm = (-100.0, -170.0, -160.0)
    lps = Acquisition((40, 100, 110), (5.0, 3.1, 3.1), first_mm, "LPS", 10)
    ras = Acquisition((40, 100, 110), (5.0, 3.1, 3.1), first_mm, "RAS", 10)
    offset_mm = (3.0, -20.0, 500.0)
    x, y, z = 12, 34, 7
    at_lps = lps.affine_ras(offset_mm) @ [x, y, z, 1]
    at_ras = ras.affine_ras(offset_mm) @ [109 - x, 99 - y, z, 1]
    np.testing.assert_allclose(at_lps, at_ras)
    expected_lps = np.array([-160 + 12 * 3.1 + 3, -170 + 34 * 3.1 - 20, -100 + 35 + 500])
    np.testing.assert_allclose(at_lps[:3], expected_lps * [-1, -1, 1])
    assert nibabel.aff2axcodes(lps.affine_ras(offset_mm)) == ("L", "P", "S")
    assert nibabel.aff2axcodes(ras.affine_ras(offset_mm)) == ("R", "A", "S")


def test_posture_is_smooth_and_independent_of_the_grid():
    posture = Posture(np.random.default_rng(3))
    axis = np.arange(-120, 121, 4, dtype=np.float32)
    coarse = np.stack(posture.template_mm(axis[::2], axis[::2], axis[::2]))
    fine = np.stack(posture.template_mm(axis, axis, axis))
    np.testing.assert_allclose(fine[:, ::2, ::2, ::2], coarse, atol=1e-3)
    gradient = np.stack([np.stack(np.gradient(part, 4.0), axis=-1) for part in fine[::-1]], axis=-2)
    stretch = np.linalg.det(gradient)
    assert stretch.min() > 0.3, "the map folds"
    assert stretch.max() < 2.5
    plain = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))[::-1]
    assert np.abs(fine - plain).max() > 4


def test_noise_is_correlated_in_the_plane_only():
    noise = draw_noise(np.random.default_rng(4), (12, 128, 128), 0.8)
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1] > 0.5
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.03
