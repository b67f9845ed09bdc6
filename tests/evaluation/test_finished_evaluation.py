import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.nnunet_tree import DATASET, truth, write_mask, write_tree
from unetr_nnunet.evaluation.finished_evaluation import merge, read_evaluation, still_holds, without_cases
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL
from unetr_nnunet.evaluation.tables import write_json
from unetr_nnunet.images.label_files import pair_cases
from unetr_nnunet.nnunet.label_table import LabelTable, read_label_table


def same(one: Any, other: Any) -> bool:
    """Compare evaluations; NaN is like NaN."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.fixture
def evaluated(tmp_path: Path) -> tuple[Path, Path, LabelTable, dict[str, Any]]:
    """A fold's validation with its metrics.json, the folder of labels, the table and the evaluation."""
    model = write_tree(tmp_path)
    folder, labels = model / "fold_1" / "validation", tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    (folder / "dataset.json").write_text((model / "dataset.json").read_text())
    evaluation = evaluate_folder(folder, labels)
    write_json(evaluation, folder / "metrics.json")
    return folder, labels, read_label_table(model / "dataset.json"), evaluation


def test_what_was_written_is_read(evaluated: tuple[Path, Path, LabelTable, dict[str, Any]]) -> None:
    folder, _, _, evaluation = evaluated
    found = read_evaluation(folder / "metrics.json")
    assert same(found["cases"], evaluation["cases"])
    assert math.isnan(found["cases"]["case_4"]["gallbladder"]["recall"])
    assert same({**found, "rule": 0}, {**evaluation, "rule": 0})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("[]", "it lacks everything"),
        (
            '{"cases": {}, "rule": {}}',
            "it lacks predictions, labels, label_source, label_ids, ignore_label, protocol, metrics, organs,",
        ),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"metrics.json .*{words}.*evaluate` again"):
        read_evaluation(path)


def test_cases_without_figures(evaluated: tuple[Path, Path, LabelTable, dict[str, Any]]) -> None:
    path = evaluated[0] / "metrics.json"
    content = json.loads(path.read_text())
    figures = ("high", 1.5, -0.1, float("inf"), True, 10**400)
    wrong = [{"cases": {"case_1": {"liver": {"dice": value}}}} for value in figures]
    wrong += [{"cases": cases} for cases in ([], {"case_1": 3})]
    wrong += [{key: 5} for key in ("resampled", "grids", "without_prediction", "without_label", "tolerance")]
    for change in (*wrong, {"files": {}}, {"protocol": {}}, {"metrics": "dice"}, {"refused": []}):
        path.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=r"metrics.json is damaged \("):
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
    evaluated: tuple[Path, Path, LabelTable, dict[str, Any]], keys: tuple[str, ...], value: Any
) -> None:
    folder, labels, _, evaluation = evaluated
    path = folder / "metrics.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), keys, value)))
    with pytest.raises(ValueError, match=r"metrics.json is damaged \("):
        read_evaluation(path)
    results = read_model(folder, labels)
    assert same(results.evaluation["cases"], evaluation["cases"])
    assert "metrics.json is damaged" in results.notes[0]
    assert results.notes[0].endswith("(computed anew)")


def test_it_holds_until_something_changes(evaluated: tuple[Path, Path, LabelTable, dict[str, Any]]) -> None:
    folder, labels, table, evaluation = evaluated
    path = folder / "metrics.json"

    def holds(protocol: str = DEFAULT_PROTOCOL.name, of: dict[str, Any] | None = None, by: LabelTable = table) -> bool:
        return still_holds(of or read_evaluation(path), pair_cases(folder, labels).pairs, by, protocol)

    assert holds()
    assert not holds("synapse-8")
    assert not holds(of={**evaluation, "tolerance": {"name": "flare"}})
    assert not holds(of={**evaluation, "resampled": {"case_1": "shape"}})
    assert not holds(by=LabelTable({"spleen": 1}, None, ""))
    assert not holds(of={**evaluation, "files": {**evaluation["files"], "case_1": evaluation["files"]["case_4"]}})
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


def test_a_refused_mask_that_was_mended_is_scored(evaluated: tuple[Path, Path, LabelTable, dict[str, Any]]) -> None:
    folder, labels, table, _ = evaluated
    mask = folder / "case_1.nii.gz"
    mask.write_bytes(b"no mask")
    evaluation, pairs = evaluate_folder(folder, labels), pair_cases(folder, labels).pairs
    assert list(evaluation["refused"]) == ["case_1"]
    assert still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name)
    write_mask(mask, truth(1))
    os.utime(mask, (0, 0))
    assert not still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name)


def test_an_evaluation_that_recorded_no_content_is_made_again(
    evaluated: tuple[Path, Path, LabelTable, dict[str, Any]],
) -> None:
    folder, labels, table, evaluation = evaluated
    old = {key: value for key, value in evaluation.items() if key != "sha256"}
    pairs = pair_cases(folder, labels).pairs
    assert not still_holds(old, pairs, table, DEFAULT_PROTOCOL.name)
    assert still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name)
    mask = folder / "case_1.nii.gz"
    mask.unlink()
    assert not still_holds(evaluation, pairs, table, DEFAULT_PROTOCOL.name), "what cannot be read is no match"


def test_halves_put_together_are_the_whole(evaluated: tuple[Path, Path, LabelTable, dict[str, Any]]) -> None:
    evaluation = evaluated[3]
    halves = [without_cases(evaluation, {case}) for case in ("case_1", "case_4")]
    assert [list(half["cases"]) for half in halves] == [["case_4"], ["case_1"]]
    assert halves[0]["foreground_mean"] != evaluation["foreground_mean"]
    assert same(merge(halves), evaluation)
    nothing = {**evaluation, "cases": {}, "metrics": [], "files": {}}
    assert same(merge([nothing, evaluation])["cases"], evaluation["cases"])


def test_different_protocols_are_not_put_together(evaluated: tuple[Path, Path, LabelTable, dict[str, Any]]) -> None:
    evaluation = evaluated[3]
    with pytest.raises(ValueError, match=r"were scored differently: .*'nnunet'.* against .*'unetr'"):
        merge([evaluation, {**evaluation, "protocol": {"name": "unetr"}}])
