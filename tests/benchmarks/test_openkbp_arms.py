import json
from pathlib import Path

import pytest

from benchmarks.openkbp_arms import STUDIES, chosen, keep
from tests.evaluation.nnunet_tree import write_tree
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.experiments.study_file import read_study_file

LOG = "2026-01-01 00:00:00.5: "


def test_what_is_kept_of_a_training_is_what_the_report_reads(tmp_path: Path) -> None:
    model = write_tree(tmp_path)
    lines = []
    for epoch, seconds in enumerate((100.0, 130.0, 120.0)):
        lines += [f"Epoch {epoch}", f"train_loss -0.{epoch}", f"Epoch time: {seconds} s"]
    (model / "fold_0" / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(LOG + line for line in lines))
    dice = keep(model, tmp_path / "kept" / model.name.split("__")[0])
    kept = tmp_path / "kept" / model.name.split("__")[0]
    theirs, ours = read_model(model).evaluation, read_model(kept / "metrics.json")
    assert dice == pytest.approx(theirs.over_organs().mean)
    assert ours.evaluation.scores() == theirs.scores()
    assert ours.seed == 3
    assert str(tmp_path) not in (kept / "metrics.json").read_text()
    cost = json.loads((kept / "training.json").read_text())
    assert (cost["train_loss"], cost["seconds_per_step"]) == (-0.2, 120 / 250)


def test_seeds_and_arms_are_chosen_by_their_trainers_names() -> None:
    models = read_study_file(STUDIES / "openkbp.toml").models
    assert len(chosen(models, [], [0, 1, 2])) == 18
    assert not {model.trainer for model in chosen(models, [], [1])} & {
        model.trainer for model in chosen(models, [], [2])
    }
    with pytest.raises(ValueError, match="no trainer of the study"):
        chosen(models, ["Mistyped"], [0])
    assert [model.trainer for model in chosen(models, ["PlainConvUNet", "UNETR_Tiny"], [1])] == [
        "nnUNetTrainerUNETR_Tiny_lr2e-2_vitlr3e-4_LightAug_NoLRFlip_14epochs_seed1",
        "nnUNetTrainerNet_PlainConvUNet_Tiny_lr8e-3_LightAug_NoLRFlip_12epochs_seed1",
    ]
