import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.nnunet_tree import DATASET, truth, write_mask, write_tree
from unetr_nnunet.evaluation.figures import Evaluation
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.metrics_file import read_evaluation, still_holds, write_csv, write_json
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL
from unetr_nnunet.images.files import pair_cases
from unetr_nnunet.nnunet.label_table import LabelTable, read_label_table


@pytest.fixture
def evaluated(tmp_path: Path) -> tuple[Path, Path, LabelTable, Evaluation]:
    """A fold's validation with its metrics.json, the folder of labels, the table and the evaluation."""
    model = write_tree(tmp_path)
    folder, labels = model / "fold_1" / "validation", tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    (folder / "dataset.json").write_text((model / "dataset.json").read_text())
    evaluation = evaluate_folder(folder, labels)
    write_json(evaluation, folder / "metrics.json")
    return folder, labels, read_label_table(model / "dataset.json"), evaluation


def test_what_was_written_is_read(evaluated: tuple[Path, Path, LabelTable, Evaluation]) -> None:
    folder, _, _, evaluation = evaluated
    read = read_evaluation(folder / "metrics.json")
    assert math.isnan(read.cases["case_4"].organs["gallbladder"].recall or 0)
    assert read.cases["case_4"].organs["gallbladder"].swapped is None
    assert repr(replace(read, rule={})) == repr(replace(evaluation, rule={})), "NaN is like NaN"
    write_json(read, folder / "again.json")
    assert (folder / "again.json").read_text() == (folder / "metrics.json").read_text()


def test_the_format_is_that_of_earlier_versions(evaluated: tuple[Path, Path, LabelTable, Evaluation]) -> None:
    content = json.loads((evaluated[0] / "metrics.json").read_text())
    assert list(content) == [
        *("predictions", "labels", "label_source", "label_ids", "not_scored", "ignore_label", "protocol", "rule"),
        *("tolerance", "metrics", "organs", "foreground_mean", "cases", "files", "sha256", "grids", "resampled"),
        *("refused", "without_prediction", "without_label"),
    ]
    gallbladder = content["organs"]["gallbladder"]
    dice = content["cases"]["case_1"]["gallbladder"]["dice"]
    assert gallbladder.pop("metrics")["recall"] == {
        "n_cases": 1,
        **dict.fromkeys(("mean", "median"), content["cases"]["case_1"]["gallbladder"]["recall"]),
    }
    assert gallbladder == {
        **{"n_cases": 2, "mean": dice / 2, "median": dice / 2, "worst": 0.0, "worst_case": "case_4"},
        **{"absent_in_both": 0, "absent_in_truth": 1, "absent_in_prediction": 0},
    }
    foreground = content["foreground_mean"]
    assert list(foreground) == ["dice", "n_organs", "n_cases", "metrics"]
    assert foreground["metrics"]["dice"] == {"mean": foreground["dice"], "n_organs": 3}
    assert list(content["cases"]["case_1"]["liver"]) == content["metrics"]
    older = {key: value for key, value in content.items() if key not in ("sha256", "grids", "tolerance", "not_scored")}
    (evaluated[0] / "older.json").write_text(json.dumps(older))
    assert read_evaluation(evaluated[0] / "older.json").over_organs().mean == foreground["dice"]


def test_csv_has_a_row_for_each_case_and_organ(evaluated: tuple[Path, Path, LabelTable, Evaluation]) -> None:
    folder, _, _, evaluation = evaluated
    write_csv(evaluation, folder / "out" / "metrics.csv")
    with (folder / "out" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["case", "organ", *evaluation.metrics]
    assert [(row["case"], row["organ"]) for row in rows] == [
        (case, organ) for case in ("case_1", "case_4") for organ in ("spleen", "liver", "gallbladder")
    ]
    liver = evaluation.cases["case_1"].organs["liver"]
    assert (rows[1]["dice"], rows[1]["truth_voxels"]) == (repr(liver.dice), str(liver.truth_voxels))
    assert (rows[5]["recall"], rows[5]["truth_voxels"]) == ("", "0")


def test_json_is_strict_and_a_failed_write_leaves_the_old_file(
    evaluated: tuple[Path, Path, LabelTable, Evaluation],
) -> None:
    folder, _, _, evaluation = evaluated
    path = folder / "metrics.json"

    def refuse(word: str) -> None:
        raise ValueError(word)

    json.loads(path.read_text(), parse_constant=refuse)
    before = path.read_text()
    with pytest.raises(TypeError):
        write_json(replace(evaluation, label_source=object()), path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("[]", "is damaged: Input should be an object"),
        ('{"cases": {}, "rule": {}}', "is damaged: predictions: Field required"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"metrics.json .*{words}.*evaluate` again"):
        read_evaluation(path)


def test_cases_without_figures(evaluated: tuple[Path, Path, LabelTable, Evaluation]) -> None:
    path = evaluated[0] / "metrics.json"
    content = json.loads(path.read_text())
    figures = ("high", 1.5, -0.1, float("inf"), True, 10**400)
    wrong = [{"cases": {"case_1": {"liver": {"dice": value}}}} for value in figures]
    wrong += [{"cases": cases} for cases in ([], {"case_1": 3})]
    wrong += [{key: 5} for key in ("resampled", "grids", "without_prediction", "without_label", "tolerance")]
    for change in (*wrong, {"files": {}}, {"protocol": {}}, {"metrics": "dice"}, {"refused": []}):
        path.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=r"metrics.json is damaged: "):
            read_evaluation(path)


def changed(content: Any, keys: tuple[str, ...], value: Any) -> Any:
    """Return a copy with one value set, or deleted where the value is None."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    if value is None:
        del inner[keys[-1]]
    return copy


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("cases", "case_1", "spleen"), None),
        (("cases", "case_1", "spleen"), 3),
        (("cases", "case_1", "spleen", "dice"), None),
        (("cases", "case_1", "spleen", "truth_voxels"), None),
        (("cases",), {}),
        (("organs", "another"), {}),
        (("organs",), {}),
        (("metrics",), [1, 2]),
        (("metrics",), [["dice"]]),
        (("metrics",), ["iou"]),
        (("rule",), [1]),
        (("without_prediction",), ["a", 1]),
        (("without_label",), [["a"]]),
        (("refused",), {"case_9": 5}),
        (("resampled",), {"case_1": {}}),
        (("labels",), 5),
        (("protocol", "statement"), 5),
        (("label_ids", "spleen"), "one"),
        (("label_ids", "spleen"), 10**6),
        (("ignore_label",), "none"),
    ],
)
def test_damage_beside_healthy_masks_is_named_and_the_masks_are_scored(
    evaluated: tuple[Path, Path, LabelTable, Evaluation], keys: tuple[str, ...], value: Any
) -> None:
    folder, labels, _, evaluation = evaluated
    path = folder / "metrics.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), keys, value)))
    with pytest.raises(ValueError, match=r"metrics.json is damaged: "):
        read_evaluation(path)
    results = read_model(folder, labels)
    assert repr(results.evaluation.cases) == repr(evaluation.cases), "NaN is like NaN"
    assert "metrics.json is damaged" in results.notes[0]
    assert results.notes[0].endswith("(the masks were scored again)")


def test_it_holds_until_something_changes(evaluated: tuple[Path, Path, LabelTable, Evaluation]) -> None:
    folder, labels, table, evaluation = evaluated
    path = folder / "metrics.json"

    def holds(protocol: str = DEFAULT_PROTOCOL.name, of: Evaluation | None = None, by: LabelTable = table) -> bool:
        return still_holds(of or read_evaluation(path), pair_cases(folder, labels).pairs, by, protocol)

    assert holds()
    assert not holds("synapse-8")
    assert not holds(of=replace(evaluation, tolerance="flare"))
    one, other = evaluation.cases["case_1"], evaluation.cases["case_4"]
    assert not holds(of=replace(evaluation, cases={"case_1": replace(one, resampled="shape"), "case_4": other}))
    assert not holds(by=LabelTable({"spleen": 1}, None, ""))
    assert not holds(
        of=replace(evaluation, cases={"case_1": replace(one, prediction=other.prediction), "case_4": other})
    )
    mask = folder / "case_1.nii.gz"
    before = mask.read_bytes()
    os.utime(mask, (path.stat().st_mtime + 5,) * 2)
    assert holds(), "the same content, copied later"
    write_mask(mask, truth(1))
    os.utime(mask, (path.stat().st_mtime - 5,) * 2)
    assert not holds(), "new masks with the timestamps of old ones (cp -p, rsync, tar)"
    mask.write_bytes(before)
    assert holds()
    write_mask(folder / "case_2.nii.gz", truth(2))
    assert not holds()


def test_a_refused_mask_that_was_mended_is_scored(evaluated: tuple[Path, Path, LabelTable, Evaluation]) -> None:
    folder, labels, table, _ = evaluated
    mask = folder / "case_1.nii.gz"
    mask.write_bytes(b"no mask")
    evaluation, pairs = evaluate_folder(folder, labels), pair_cases(folder, labels).pairs
    assert list(evaluation.refused) == ["case_1"]
    assert still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name)
    write_mask(mask, truth(1))
    os.utime(mask, (0, 0))
    assert not still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name)


def test_an_evaluation_that_recorded_no_content_is_made_again(
    evaluated: tuple[Path, Path, LabelTable, Evaluation],
) -> None:
    folder, labels, table, evaluation = evaluated
    old = replace(evaluation, sha256={})
    pairs = pair_cases(folder, labels).pairs
    assert not still_holds(old, pairs, table, DEFAULT_PROTOCOL.name)
    assert still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name)
    mask = folder / "case_1.nii.gz"
    mask.unlink()
    assert not still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name), "what cannot be read is no match"
