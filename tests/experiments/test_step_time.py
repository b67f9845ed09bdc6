import json
import logging
from pathlib import Path

import pytest

from tests.conftest import DATASET
from unetr_nnunet.experiments.step_time import training_seconds
from unetr_nnunet.experiments.study import Model, Study

OURS = Model("nnUNetTrainerUNETR_Modified_Tiny_2epochs")


@pytest.mark.slow
def test_a_step_of_each_trainer_is_run_and_one_that_cannot_be_is_named(
    blobs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plans = blobs / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    content = json.loads(plans.read_text())
    content["configurations"]["3d_fullres"].update({"patch_size": [16, 32, 32], "batch_size": 2})
    plans.write_text(json.dumps(content))
    theirs, missing = Model("nnUNetTrainer_5epochs"), Model("nnUNetTrainerThatIsNowhere")
    study = Study(917, (OURS, theirs, missing))
    before = sorted(blobs.rglob("*"))
    found = training_seconds(study, study.models, "cpu", 1)
    assert found.keys() == {OURS.identifier, theirs.identifier}
    assert all(seconds > 1 for seconds in found.values()), "500 and 1250 steps of some milliseconds each"
    *_, started, failed = (record.getMessage() for record in caplog.records)
    assert started == f"measuring a training step: {missing.identifier} (3 of 3)"
    assert "not measured: " in failed
    assert missing.trainer in failed
    assert sorted(blobs.rglob("*")) == before
