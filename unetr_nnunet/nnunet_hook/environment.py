"""The environment variables through which nnU-Net finds its folders and our trainers."""

import os
from pathlib import Path

EXTERNAL_TRAINERS = "nnUNet_extTrainer"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def trainer_folder() -> Path:
    """Return the folder that ``nnUNet_extTrainer`` must name."""
    return Path(__file__).resolve().parent / "ext_trainers"


def nnunet_variables(root: Path) -> dict[str, str]:
    """Return the variables that have to be set or changed for the ``nnUNetv2_*`` commands to work with our trainers.

    What the environment already has is kept: our folder is put in front of other external trainers, and a folder
    variable that is set is left out.

    Args:
        root: where nnU-Net's three folders go that no variable names yet.
    """
    others = [path for path in os.environ.get(EXTERNAL_TRAINERS, "").split(os.pathsep) if path]
    ours = str(trainer_folder())
    variables = {EXTERNAL_TRAINERS: os.pathsep.join([ours, *(path for path in others if path != ours)])}
    variables.update({name: str(root.resolve() / name) for name in FOLDERS if not os.environ.get(name)})
    return variables
