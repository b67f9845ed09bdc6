import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from unetr_nnunet.nnunet.label_integers import annotated_integers, integer_labels, region_integers


def test_plain_labels_are_as_in_the_file() -> None:
    dataset = {"labels": {"background": 0, "liver": 2, "spleen": [1], "ignore": 3}}
    assert integer_labels(dataset) == {"liver": 2, "spleen": 1}


def test_regions_have_the_integers_that_nnunet_writes() -> None:
    labels = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    dataset = {"labels": labels, "regions_class_order": [1, 2, 3]}
    names = integer_labels(dataset)
    assert names == {"whole tumour": 1, "core": 2, "enhancing": 3}
    manager = LabelManager(labels, dataset["regions_class_order"])
    assert len(manager.foreground_regions) == len(names)
    for channel, (name, region) in enumerate(zip(names, manager.foreground_regions, strict=True)):
        assert region == (tuple(labels[name]) if isinstance(labels[name], list) else labels[name])
        probabilities = np.zeros((3, 1, 1, 1), np.float32)
        probabilities[channel] = 1
        assert manager.convert_probabilities_to_segmentation(probabilities).item() == names[name]


def test_regions_are_their_own_voxels_and_those_of_the_regions_within() -> None:
    """Every combination of regions, as nnU-Net's `LabelManager` writes it."""
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    dataset = {"labels": labels, "regions_class_order": [1, 2, 3]}
    integers = region_integers(dataset)
    assert integers == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    manager = LabelManager(labels, dataset["regions_class_order"])
    for inside in ([1, 0, 0], [1, 1, 0], [1, 1, 1]):
        written = manager.convert_probabilities_to_segmentation(np.reshape(np.array(inside, np.float32), (3, 1, 1, 1)))
        assert [int(written.item() in integers[name]) for name in integers] == inside
    assert region_integers({"labels": {"background": 0, "a": [1, 2], "b": 2}, "regions_class_order": [7, 8]}) == {
        "a": (7,), "b": (8,)
    }  # fmt: skip
    assert region_integers({"labels": {"background": 0, "liver": 2, "spleen": [1]}}) == {"liver": (2,), "spleen": (1,)}


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        ({}, 'no "labels" table'),
        ({"labels": {"background": 0, "a": [1, 2]}}, 'holds 1 regions and "regions_class_order" None'),
        ({"labels": {"background": 0, "a": [1, 2]}, "regions_class_order": [1, 2]}, r"holds 1 regions.*\[1, 2\]"),
        ({"labels": {"background": 0, "a": "x"}}, "the label of 'a' is 'x'"),
        ({"labels": {"background": 0, "a": []}}, r"the label of 'a' is \[\]"),
    ],
)
def test_a_damaged_table_is_refused(dataset: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        integer_labels(dataset)


def test_annotated_regions_are_those_of_the_file() -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}
    dataset = {"labels": labels, "regions_class_order": [7, 8]}
    assert annotated_integers(dataset) == {"whole": (1, 2, 3), "core": (2, 3)}
    assert annotated_integers({"labels": {"background": 0, "liver": 2}}) == {"liver": (2,)}
