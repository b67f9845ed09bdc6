"""A study on real patients, from the repository's own layout to its report, by real commands in fresh processes."""

import json
from pathlib import Path

import pytest

from tests.conftest import nnunet_command, set_nnunet_folders, shorten_epochs

pytestmark = pytest.mark.slow

STUDY = """
dataset = 55
configuration = "coarse"
folds = [0]
candidates = 1
cores = 1
data = [["convert", "openkbp", "{download}"]]

[configurations.coarse]
inherits_from = "3d_fullres"
data_identifier = "nnUNetPlans_coarse"
spacing = [6.0, 6.0, 6.0]
patch_size = [32, 32, 32]
batch_size = 2

[[models]]
trainer = "nnUNetTrainerUNETR_Modified_Tiny_NoAug_NoLRFlip_1epochs_seed0"
"""


def test_from_the_repository_to_the_report(openkbp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_nnunet_folders(monkeypatch, tmp_path)
    shorten_epochs(monkeypatch, 2)
    monkeypatch.setenv("nnUNet_compile", "f")
    (tmp_path / "openkbp.toml").write_text(STUDY)
    study, clone = tmp_path / "study", openkbp / "raw"
    words = (str(tmp_path / "openkbp.toml"), "--download", str(clone), "-o", str(study), "--device", "cpu")
    nnunet_command("unetr_nnunet", "crossval", *words)
    assert "nnUNetTrainerUNETR_Modified_Tiny_NoAug_NoLRFlip_1epochs" in (study / "tables.md").read_text()
    fold = next((tmp_path / "nnUNet_results" / "Dataset055_OpenKBP").rglob("fold_0"))
    (case,) = json.loads((fold / "validation" / "summary.json").read_text())["metric_per_case"]
    assert case["prediction_file"].endswith("HN_201.nii.gz")
    # as many as the files list, but for four voxels of the brainstem that the spinal cord claims
    assert {label: figures["n_ref"] for label, figures in case["metrics"].items()} == {
        "1": 347,
        "2": 282,
        "3": 255,
        "4": 266,
        "5": 874,
    }
