import json
from pathlib import Path

import pytest

from unetr_nnunet.nnunet.label_table import find_label_table, read_label_table
from unetr_nnunet.organs import ORGANS


def write(path: Path, labels: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"labels": labels}))
    return path


def test_the_table_beside_the_predictions_comes_first_then_the_raw_folders_then_btcv(tmp_path: Path) -> None:
    predictions, labels = tmp_path / "predictions", tmp_path / "raw" / "labelsTr"
    for folder in (predictions, labels):
        folder.mkdir(parents=True)
    table = find_label_table(predictions, labels)
    assert table.organs == {organ.name: organ.id for organ in ORGANS}
    assert "BTCV" in table.source
    write(tmp_path / "raw" / "dataset.json", {"background": 0, "liver": 1})
    assert find_label_table(predictions, labels).organs == {"liver": 1}
    path = write(predictions / "dataset.json", {"background": 0, "aorta": 2})
    assert find_label_table(predictions, labels).organs == {"aorta": 2}
    assert find_label_table(predictions, labels).source == str(path)


def test_the_ignore_label_is_no_organ(tmp_path: Path) -> None:
    table = read_label_table(write(tmp_path / "dataset.json", {"background": 0, "liver": 1, "ignore": 2}))
    assert table.organs == {"liver": 1}
    assert table.ignore_label == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "kidneys": [2, 3]}, "'kidneys' is a region"),
        ({"background": 0, "liver": "1"}, "'liver' is '1'"),
        ({"background": 0, "liver": 1.5}, "'liver' is 1.5"),
        ({"background": 0, "liver": True}, "'liver' is True"),
        ({"background": 0, "liver": 70000}, "'liver' is 70000"),
        ({"background": 0, "liver": -1}, "'liver' is -1"),
        ({"background": 0, "liver": 1, "spleen": 1}, "share one label"),
        ({"background": 0}, "names no organ"),
        (["liver"], "not an nnU-Net dataset.json"),
        (None, "not an nnU-Net dataset.json"),
    ],
)
def test_refuses_a_table_that_is_none(tmp_path: Path, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_label_table(write(tmp_path / "dataset.json", labels))


def test_refuses_broken_json(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text('{"labels": {')
    with pytest.raises(ValueError, match=r"dataset\.json is not an nnU-Net"):
        read_label_table(path)


def declare(path: Path, *absent: str, labels: dict[str, int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"background": 0} | {organ.name: organ.id for organ in ORGANS}
    path.write_text(json.dumps({"labels": labels or names, "absent_labels": list(absent)}))
    return path


@pytest.mark.parametrize("declared_by", ["model", "labels"])
def test_labels_that_either_side_declares_absent_are_not_scored_but_may_occur(declared_by: str, tmp_path: Path) -> None:
    predictions, labels = tmp_path / "predictions", tmp_path / "raw" / "labelsTs"
    veins = "portal_and_splenic_veins"
    declare(predictions / "dataset.json", *([veins] if declared_by == "model" else []))
    declare(tmp_path / "raw" / "dataset.json", *([veins] if declared_by == "labels" else []))
    table = find_label_table(predictions, labels)
    assert set(table.organs.values()) == set(range(1, 14)) - {10}
    assert table.not_scored == {veins: 10}
    assert veins in table.source


def test_absent_labels_of_both_sides_add_up_and_are_known_by_any_name(tmp_path: Path) -> None:
    labels = tmp_path / "raw" / "labelsTs"
    declare(tmp_path / "dataset.json", "aorta")
    others = {"background": 0, "kidney_left": 1, "inferior_vena_cava": 2}
    declare(tmp_path / "raw" / "dataset.json", "postcava", labels=others)
    assert set(find_label_table(tmp_path, labels).not_scored) == {"aorta", "inferior_vena_cava"}


def test_a_damaged_file_beside_the_labels_does_not_matter_where_the_predictions_have_a_table(tmp_path: Path) -> None:
    declare(tmp_path / "dataset.json", "aorta")
    for content in ("{", "[]", '{"absent_labels": 3}'):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / "dataset.json").write_text(content)
        assert find_label_table(tmp_path, tmp_path / "raw" / "labelsTs").not_scored == {"aorta": 8}


def test_nothing_left_to_score(tmp_path: Path) -> None:
    path = declare(tmp_path / "dataset.json", "liver", labels={"background": 0, "liver": 1})
    with pytest.raises(ValueError, match=r"dataset\.json: every label is declared absent"):
        read_label_table(path)
