import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.openkbp_arms import RESULTS, STUDIES
from benchmarks.openkbp_report import REPORTS, differences, heading, kept
from unetr_nnunet.experiments.study_file import read_study_file


def test_the_report_is_of_all_trainings_that_are_kept() -> None:
    study = read_study_file(STUDIES / "openkbp.toml")
    trainings = kept(study, RESULTS / "openkbp")
    assert {folder.name for folder in trainings} == {folder.name for folder in (RESULTS / "openkbp").iterdir()}
    written = (REPORTS / "openkbp.md").read_text(encoding="utf-8").splitlines()
    dated = re.compile(r"on 20[\d-]+ from|nnunetv2 [\d.]+")
    lines = [*heading("openkbp", study, trainings), *differences(study, trainings, "Modified")]
    assert [dated.sub("", line) for line in written[: len(lines)]] == [dated.sub("", line) for line in lines]


def mean_dice(trainer: str) -> float:
    """Mean over organs of the means over patients and seeds, by hand."""
    of_seeds = []
    for path in (RESULTS / "openkbp").glob(f"{trainer}_seed*/metrics.json"):
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"].values()
        of_seeds.append([[organ["dice"] for organ in case.values()] for case in cases])
    return float(np.mean(of_seeds))


def test_differences_are_those_of_the_studys_question() -> None:
    study = read_study_file(STUDIES / "openkbp.toml")
    table = list(differences(study, kept(study, RESULTS / "openkbp"), "Modified"))
    rows = [line.split(" | ") for line in table if line.endswith(" |")][1:]
    trainers = dict(study.tables[0].rows)
    assert {row[0].removeprefix("| ") for row in rows} == trainers.keys() - {"Modified"}
    for label, _, difference, *_ in rows:
        expected = mean_dice(trainers["Modified"]) - mean_dice(trainers[label.removeprefix("| ")])
        assert float(difference) == pytest.approx(expected, abs=6e-4)


def test_without_its_subject_there_is_no_table_of_differences() -> None:
    study = read_study_file(STUDIES / "openkbp.toml")
    others = [folder for folder in kept(study, RESULTS / "openkbp") if "_Modified_Tiny" not in folder.name]
    assert list(differences(study, others, "Modified")) == []


def test_the_page_names_files_from_the_checkout_on() -> None:
    page = (REPORTS / "openkbp.html").read_text(encoding="utf-8")
    assert "unetr_nnunet report benchmarks/results/openkbp/" in page
    assert re.findall(r"(?<![\w.:/<])/[\w./-]*\w\.(?:json|md|html)\b", page) == []


def test_a_row_shows_the_seeds_of_its_arm_alone(tmp_path: Path) -> None:
    study = read_study_file(STUDIES / "openkbp.toml")
    arm = "nnUNetTrainerUNETR_Modified_Tiny_lr3e-3_vitlr3e-4_LightAug_NoLRFlip_12epochs"
    for trainer, step in ((f"{arm}_seed0", 0.5), (f"{arm}_seed2", 0.75), ("nnUNetTrainer", 9)):
        folder = tmp_path / trainer
        folder.mkdir()
        (folder / "metrics.json").touch()
        cost = f'{{"train_loss": -0.5, "seconds_per_step": {step}, "processor": "AVX2", "torch": "2.9"}}'
        (folder / "training.json").write_text(cost)
    trainings = kept(study, tmp_path)
    assert [folder.name for folder in trainings] == [f"{arm}_seed0", f"{arm}_seed2"]
    lines = list(heading("openkbp", study, trainings))
    assert lines[0] == "# 2 of the 18 trainings of `studies/openkbp.toml`"
    assert f"| Modified | `{arm}` | 0: 0.50 (AVX2), 2: 0.75 (AVX2) | -0.500, -0.500 |" in lines
