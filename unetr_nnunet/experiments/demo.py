"""Run the demo: the study ``studies/demo.toml`` on a processor, with all its files in one folder."""

import os
from pathlib import Path

from unetr_nnunet.experiments.crossval import run_study, write_inputs
from unetr_nnunet.experiments.settings import Settings
from unetr_nnunet.experiments.study import Study
from unetr_nnunet.experiments.study_file import STUDIES, read_study_file
from unetr_nnunet.nnunet.folders import DatasetFolders, find_dataset
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, nnunet_variables

STUDY_FILE = STUDIES / "demo.toml"
PHANTOM_LABELS = Path("download", "Testing_labels")
"""Where the study puts the labels of its test cases, which BTCV's download does not have."""


def run_demo(folder: Path, study: Study | None = None) -> DatasetFolders:
    """Run the demo, or continue it.

    Args:
        folder: for all files, including nnU-Net's folders; its variables are ignored.
        study: another study than the demo's.

    Returns:
        The folders of the data set; the predicted label maps of its test cases are in ``folder / "predictions"``.
    """
    folder, study = folder.resolve(), study or read_study_file(STUDY_FILE)
    folders = {name: str(folder / name) for name in FOLDERS}
    os.environ.update({EXTERNAL_TRAINERS: nnunet_variables(folder)[EXTERNAL_TRAINERS], **folders})
    cores = len(os.sched_getaffinity(0))
    settings = Settings(
        executor="local",
        device="cpu",
        gpus=0,
        gpus_per_training=1,
        cores=cores,
        cores_per_training=min(cores, study.cores or cores),
        jobs=1,
        keep_probabilities=False,
        folders=folders,
    )
    is_new = not folder.exists() or not any(folder.iterdir())
    if is_new or (folder / "done" / "configure").is_file():  # or of version 0.1, whose data and trainings are used
        write_inputs(study, settings, folder)  # nnU-Net's folders in it would else be taken for other files
    run_study(study, settings, folder)
    return find_dataset(study.dataset)
