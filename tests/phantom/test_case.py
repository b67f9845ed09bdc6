import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from unetr_nnunet.organs import ORGANS
from unetr_nnunet.phantom.case import PhantomCase, generate_case, has_gallbladder

SEED = 0
ID = {organ.short_name: organ.id for organ in ORGANS}

# published ranges of adults, widened: CT volumetry of liver, spleen, kidneys, pancreas and adrenals; vessels over
# the length that is labelled; the stomach with its content
PLAUSIBLE_ML = {
    "Spl": (60, 400),
    "RKid": (80, 320),
    "LKid": (80, 320),
    "Gall": (6, 90),
    "Eso": (6, 40),
    "Liv": (800, 2500),
    "Sto": (120, 900),
    "Aor": (35, 160),
    "IVC": (30, 160),
    "PSV": (10, 60),
    "Pan": (30, 160),
    "RAd": (2.5, 13),
    "LAd": (2.5, 13),
}


@pytest.fixture(scope="module")
def cases() -> dict[int, PhantomCase]:
    return {number: generate_case(number, "demo", SEED) for number in (1, 2, 3, 24)}


def centers_ras_mm(case: PhantomCase) -> dict[str, np.ndarray]:
    result = {}
    for name, number in ID.items():
        where = np.argwhere(case.labels == number)
        if len(where):
            result[name] = (case.affine @ [*where.mean(axis=0)[::-1], 1])[:3]
    return result


def test_same_numbers_same_bytes(cases):
    again = generate_case(2, "demo", SEED)
    for field in dataclasses.fields(PhantomCase):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(cases[2], field.name))
    assert again.image_hu.dtype == np.int16
    assert again.labels.dtype == np.uint8
    assert not np.array_equal(cases[1].labels[:40], cases[2].labels[:40])


def test_organ_volumes_are_plausible(cases):
    for number, case in cases.items():
        voxels = np.bincount(case.labels.ravel())
        assert len(voxels) == 14
        for name, (low, high) in PLAUSIBLE_ML.items():
            if name == "Gall" and not has_gallbladder(number, SEED):
                assert voxels[ID[name]] == 0
                continue
            volume_ml = voxels[ID[name]] * np.prod(case.spacing_mm) / 1000
            assert low <= volume_ml <= high, (number, name, volume_ml)
            assert voxels[ID[name]] >= 50, (number, name)


def test_organs_are_in_one_piece(cases):
    for number, case in cases.items():
        for organ in ORGANS:
            pieces, _ = ndimage.label(case.labels == organ.id, np.ones((3, 3, 3)))
            sizes = np.bincount(pieces.ravel())[1:]
            if len(sizes):
                assert sizes.max() >= 0.93 * sizes.sum(), (number, organ.name, sizes)


def test_organs_are_where_they_belong_in_the_world(cases):
    assert {case.orientation for case in cases.values()} == {"LPS", "RAS"}
    for case in cases.values():
        at = centers_ras_mm(case)
        right, front, up = 0, 1, 2
        for name in ("Liv", "RKid", "RAd", "IVC"):
            assert at[name][right] > at["Aor"][right]
        for name in ("Spl", "LKid", "LAd", "Sto"):
            assert at[name][right] < at["Aor"][right]
        assert at["Aor"][front] < at["Pan"][front] < at["Sto"][front] + 40
        assert at["RAd"][up] > at["RKid"][up]
        assert at["LAd"][up] > at["LKid"][up]
        assert at["Eso"][up] > at["Sto"][up]


def test_neighbours_touch(cases):
    for case in cases.values():
        near = {name: ndimage.binary_dilation(case.labels == ID[name], iterations=2) for name in ("Sto", "Liv", "Spl")}
        assert (near["Sto"] & (case.labels == ID["Eso"])).any()
        assert (near["Liv"] & (case.labels == ID["PSV"])).any()
        assert (near["Spl"] & (case.labels == ID["PSV"])).any()


EXPECTED_HU = {
    "unenhanced": {"Aor": (25, 60), "Liv": (40, 75), "Spl": (35, 65), "IVC": (25, 60)},
    "arterial": {"Aor": (220, 360), "Liv": (50, 90), "Spl": (90, 150), "IVC": (45, 110)},
    "portal": {"Aor": (115, 200), "Liv": (80, 135), "Spl": (95, 155), "PSV": (115, 205), "IVC": (100, 175)},
}


def test_grey_values_are_those_of_ct(cases):
    for case in cases.values():
        image = case.image_hu
        assert image.min() >= -1024
        assert image.max() <= 3071
        for name, (low, high) in EXPECTED_HU[case.phase].items():
            assert low <= np.median(image[case.labels == ID[name]]) <= high, (case.phase, name)
        body = image[image > -200]
        fat, edges = np.histogram(body[body < -40], bins=40)
        assert -120 < edges[fat.argmax()] < -85
        assert np.percentile(image[-1], 30) < -900
        assert (image > 400).mean() > 0.002, "no bone"
        lung = (image > -920) & (image < -780)
        assert lung[-4:].mean() > 0.07
        gas = (image < -800) & ndimage.binary_erosion(case.labels == ID["Sto"])
        assert 0.02 < gas.sum() / (case.labels == ID["Sto"]).sum() < 0.7


def test_body_is_inside_the_field_and_liver_below_its_top(cases):
    for case in cases.values():
        assert not (case.labels[-1] == ID["Liv"]).any()
        assert not (case.labels[0] == ID["RKid"]).any()
        assert not (case.labels[0] == ID["LKid"]).any()
        assert (case.image_hu[:, :, 0] > -500).mean() < 0.01


def test_one_in_ten_has_no_gallbladder():
    absent = [not has_gallbladder(number, 0) for number in range(2000)]
    assert 0.08 < np.mean(absent) < 0.12


@pytest.mark.slow
def test_anatomy_does_not_depend_on_the_size(cases):
    demo, half = cases[1], generate_case(1, "half", SEED)
    for name in ("Liv", "Spl", "LKid"):
        volumes = [(c.labels == ID[name]).sum() * np.prod(c.spacing_mm) / 1000 for c in (demo, half)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.04)


@pytest.mark.parametrize(
    ("number", "size", "seed", "said"), [(1, "tiny", 0, "tiny"), (-1, "demo", 0, "-1"), (1, "demo", -5, "-5")]
)
def test_impossible_settings_are_refused(number, size, seed, said):
    with pytest.raises(ValueError, match=said):
        generate_case(number, size, seed)
