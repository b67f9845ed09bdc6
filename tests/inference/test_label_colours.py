from pathlib import Path

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from unetr_nnunet.inference.label_colours import (
    ITKSNAP_FILE,
    SLICER_FILE,
    integer_labels,
    region_integers,
    write_label_tables,
)
from unetr_nnunet.organs import ORGANS

LIVER = ORGANS[5]


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


def test_itksnap_reads_numbers_colours_and_names(tmp_path: Path) -> None:
    write_label_tables(tmp_path, {"liver": 300, 'odd "name" of  two': 2})
    rows = {}
    for line in (tmp_path / ITKSNAP_FILE).read_text().splitlines():
        if line.startswith("#") or not line:  # ITK-SNAP: seven numbers, then what is between the quotation marks
            continue
        before, name, after = line.split('"')
        assert not after
        index, red, green, blue, alpha, visible, mesh = map(float, before.split())
        rows[int(index)] = (red, green, blue, alpha, visible, mesh, name)
    assert rows[0] == (0, 0, 0, 0, 0, 0, "Clear Label")
    assert rows[300] == (*LIVER.colour, 1, 1, 1, "liver")
    assert rows[2][3:] == (1, 1, 1, "odd 'name' of two")
    assert list(rows) == [0, 2, 300]


def test_slicer_reads_numbers_colours_and_names(tmp_path: Path) -> None:
    write_label_tables(tmp_path, {"liver": 300, "two words": 2})
    lines = (tmp_path / SLICER_FILE).read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    assert [row[:2] for row in rows] == [["0", "Background"], ["2", "two_words"], ["300", "liver"]]
    assert all(len(row) == 6 for row in rows)
    assert rows[0][2:] == ["0", "0", "0", "0"]
    assert tuple(map(int, rows[2][2:])) == (*LIVER.colour, 255)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ITKSNAP_FILE, SLICER_FILE])
