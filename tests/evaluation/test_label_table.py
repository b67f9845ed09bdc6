import json
from pathlib import Path

import pytest

from unetr_nnunet.evaluation.label_table import find_label_table, read_label_table
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
        (["liver"], "no nnU-Net dataset.json"),
        (None, "no nnU-Net dataset.json"),
    ],
)
def test_refuses_a_table_that_is_none(tmp_path: Path, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_label_table(write(tmp_path / "dataset.json", labels))


def test_refuses_broken_json(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text('{"labels": {')
    with pytest.raises(ValueError, match=r"dataset\.json is no nnU-Net"):
        read_label_table(path)
