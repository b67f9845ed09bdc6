import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from pydicom.sr.codedict import codes

import unetr_nnunet
from unetr_nnunet.organs import (
    BACKGROUND,
    CHALLENGE_12,
    ORGAN_NAMES,
    ORGAN_ORDER,
    ORGANS,
    RUNS_ON,
    SYNAPSE_8,
    Organ,
    find_organ,
    label_colours,
)


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


@pytest.mark.parametrize("organ", ORGANS, ids=lambda organ: organ.name)
def test_codes_are_those_of_the_dicom_standard(organ: Organ) -> None:
    keyword = organ.snomed_meaning.title().replace(" ", "")
    assert organ.snomed_code == getattr(codes.SCT, keyword).value
    words = organ.snomed_meaning.lower().split()
    assert all(word in organ.name for word in words), "the code means this organ"
    side = re.match(r"(right|left)_", organ.name)
    assert organ.laterality == (side[1] if side else None)


@pytest.mark.parametrize("name", ["Right kidney", "right-kidney", "kidney_right", " RIGHT_KIDNEY "])
def test_an_organ_is_found_by_any_spelling(name: str) -> None:
    assert find_organ(name) is ORGANS[1]


@pytest.mark.parametrize(
    ("name", "organ"),
    [
        ("postcava", "inferior_vena_cava"),
        ("arota", "aorta"),
        ("gall bladder", "gallbladder"),
        ("Portal vein and splenic vein", "portal_and_splenic_veins"),
    ],
)
def test_names_of_other_data_sets(name: str, organ: str) -> None:
    found = find_organ(name)
    assert found is not None
    assert found.name == organ


@pytest.mark.parametrize("name", ["kidney", "", "tumour", "right kidney tumour", "adrenal", "bladder"])
def test_other_labels_are_no_organ(name: str) -> None:
    assert find_organ(name) is None


def test_organs_keep_their_colours_whatever_their_number() -> None:
    assert label_colours({"Liver": 1, "kidney_left": 200}) == {1: ORGANS[5].colour, 200: ORGANS[2].colour}


def test_colours_of_other_labels_are_stable_and_their_own() -> None:
    labels = {f"label {number}": number for number in range(1, 1001)} | {"spleen": 5000}
    colours = label_colours(labels)
    assert len(set(colours.values()) | {organ.colour for organ in ORGANS}) == 1000 + len(ORGANS)
    assert all(0 <= part <= 255 for colour in colours.values() for part in colour)
    assert all(max(colour) > 100 for colour in colours.values()), "visible on black"
    assert label_colours({"other name": 7})[7] == colours[7], "follows from the number alone"
    for one, other in itertools.combinations(range(1, 21), 2):
        distance = sum((a - b) ** 2 for a, b in zip(colours[one], colours[other], strict=True)) ** 0.5
        assert distance > 25, (one, other)


def test_the_known_order_names_organs_and_does_not_contradict_itself() -> None:
    names = set(ORGAN_NAMES.values())
    assert names >= RUNS_ON
    for pairs in ORGAN_ORDER.values():
        assert names >= {name for pair in pairs for name in pair}
        assert not {pair[::-1] for pair in pairs} & set(pairs)


@pytest.mark.parametrize("number", [1, 5, 62])
def test_the_known_order_holds_in_a_phantom(number: int) -> None:
    from unetr_nnunet.phantom.case import generate_case

    case = generate_case(number, "demo", 0)
    places = {
        organ.name: (case.affine @ [*np.argwhere(case.labels == organ.id).mean(0)[::-1], 1])[:3] * (-1, -1, 1)
        for organ in ORGANS
        if (case.labels == organ.id).any()
    }
    for axis, pairs in enumerate(ORGAN_ORDER.values()):
        for first, second in pairs:
            if first in places and second in places:
                assert places[first][axis] > places[second][axis], (first, second)
