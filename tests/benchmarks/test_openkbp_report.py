import re
from pathlib import Path

from benchmarks.openkbp_arms import RESULTS, STUDIES
from benchmarks.openkbp_report import REPORTS, heading, kept
from unetr_nnunet.experiments.study_file import read_study_file


def test_the_report_is_of_all_trainings_that_are_kept() -> None:
    study = read_study_file(STUDIES / "openkbp.toml")
    trainings = kept(study, RESULTS / "openkbp")
    assert {folder.name for folder in trainings} == {folder.name for folder in (RESULTS / "openkbp").iterdir()}
    written = (REPORTS / "openkbp.md").read_text(encoding="utf-8").splitlines()
    dated = re.compile(r"on 20[\d-]+ from|nnunetv2 [\d.]+")
    lines = list(heading("openkbp", study, trainings))
    assert [dated.sub("", line) for line in written[: len(lines)]] == [dated.sub("", line) for line in lines]


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
