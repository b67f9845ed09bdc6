"""nnU-Net trains on a converted data set that lacks an organ; the model is scored on another data set's labels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import nnunet_command, set_nnunet_folders
from tests.dataset_conversion.other_trees import AmosTree, TotalSegmentatorTree

pytestmark = [pytest.mark.slow]
TRAINER = "nnUNetTrainerUNETR_Tiny_1epochs"
SHAPE_ZYX = (16, 32, 32)
# two iterations instead of 250, otherwise as nnUNetv2_train does it
TRAIN = f"""
from nnunetv2.run.run_training import get_trainer_from_args
import torch
trainer = get_trainer_from_args("51", "3d_fullres", 0, {TRAINER!r}, device=torch.device("cpu"))
trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 1
trainer.run_training()
trainer.perform_actual_validation()
print("pseudo Dice", trainer.logger.get_value("dice_per_class_or_region", step=-1))
"""


def converted(root: Path, tree: AmosTree | TotalSegmentatorTree) -> Path:
    tree.shape_zyx = SHAPE_ZYX
    tree.write()
    nnunet_command("unetr_nnunet", "convert", tree.command, str(tree.folder))
    return next((root / "nnUNet_raw").glob(f"*_{'AMOS22' if tree.command == 'amos' else 'TotalSegmentator'}"))


def test_train_on_one_and_evaluate_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_nnunet_folders(monkeypatch, tmp_path)
    converted(tmp_path, AmosTree(tmp_path / "amos"))
    other = converted(tmp_path, TotalSegmentatorTree(tmp_path / "totalsegmentator"))
    words = ("-d", "51", "-c", "3d_fullres", "--verify_dataset_integrity", "-np", "1", "-npfp", "1")
    nnunet_command("nnUNetv2_plan_and_preprocess", *words)
    splits = json.loads((tmp_path / "nnUNet_preprocessed" / "Dataset051_AMOS22" / "splits_final.json").read_text())
    assert splits == [{"train": ["amos_0001", "amos_0004", "amos_0500"], "val": ["amos_0008"]}]

    command = [sys.executable, "-W", "ignore", "-c", TRAIN]
    environment = os.environ | {"nnUNet_compile": "f"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    fold = next((tmp_path / "nnUNet_results").rglob("fold_0"))
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert summary["mean"]["10"]["n_ref"] == 0, "nobody has drawn these veins in AMOS22"

    choice = ("-d", "51", "-c", "3d_fullres", "-tr", TRAINER, "-f", "0", "-device", "cpu")
    images, predictions = str(other / "imagesTs"), tmp_path / "predictions"
    nnunet_command(
        "nnUNetv2_predict", *choice, "-i", images, "-o", str(predictions), "-npp", "0", "-nps", "0", "--disable_tta"
    )
    printed = nnunet_command("unetr_nnunet", "evaluate", str(predictions), str(other / "labelsTs"))
    assert "not scored, as they are not annotated there: portal_and_splenic_veins" in printed
    metrics = json.loads((predictions / "metrics.json").read_text())
    assert list(metrics["cases"]) == ["s0011"]
    assert len(metrics["cases"]["s0011"]) == 12
    assert metrics["refused"] == {}
