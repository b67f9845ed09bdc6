import re
from pathlib import Path

import pytest

import unetr_nnunet
from unetr_nnunet.organs import BACKGROUND, CHALLENGE_12, ORGAN_NAMES, ORGANS, SYNAPSE_8


def test_ids_are_those_of_btcv() -> None:
    assert [organ.id for organ in ORGANS] == list(range(1, 14))
    assert BACKGROUND == 0
    assert ORGAN_NAMES[2] == "right_kidney"
    assert ORGAN_NAMES[13] == "left_adrenal_gland"


def test_names_and_colours_are_distinct() -> None:
    for field in ("name", "short_name", "colour", "totalsegmentator_name"):
        assert len({getattr(organ, field) for organ in ORGANS}) == 13
    assert all(0 <= part <= 255 for organ in ORGANS for part in organ.colour)
    assert all(re.fullmatch(r"[a-z_]+", organ.name) and len(organ.short_name) <= 4 for organ in ORGANS)


@pytest.mark.parametrize(("left", "right"), [(2, 3), (12, 13)])
def test_paired_organs_differ_in_lightness(left: int, right: int) -> None:
    def lightness(organ_id: int) -> float:
        red, green, blue = ORGANS[organ_id - 1].colour
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert abs(lightness(left) - lightness(right)) > 40


def test_subsets() -> None:
    names = [ORGAN_NAMES[organ_id] for organ_id in SYNAPSE_8]
    assert names == ["aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach"]
    assert len(CHALLENGE_12) == 12
    assert sorted(organ_id for column in CHALLENGE_12 for organ_id in column) == list(range(1, 14))


def test_nothing_else_in_the_package_lists_organs() -> None:
    package = Path(unetr_nnunet.__file__).parent
    long_names = [organ.name for organ in ORGANS if "_" in organ.name]
    for path in package.rglob("*.py"):
        if path.name != "organs.py":
            assert sum(f'"{name}"' in path.read_text(encoding="utf-8") for name in long_names) < 5, path
