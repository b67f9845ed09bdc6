"""The demo: the whole way from a BTCV-like download to per-organ Dice, on the phantom, in minutes, on a CPU.

Every step is a command that a user would type; `demo_steps` is the list. Only the plan is made smaller: a configuration
of its own, ``demo``, that inherits nnU-Net's ``3d_fullres`` (nnU-Net's documented way to change a plan) and shares its
preprocessed data.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.experiments.steps import Step, run_steps
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, nnunet_variables

DATASET = "Dataset017_BTCV"
CONFIGURATION = "demo"
TRAINER = "nnUNetTrainerUNETR_Tiny_NoLRFlip_1epochs_seed0"


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Attributes:
        training_cases: labelled phantoms.
        test_cases: held-out phantoms.
        folds: folds of the five-fold cross-validation that are trained and then ensembled.
        patch_size: training patch (z, y, x) in voxels.
        batch_size: patches per iteration.
        trainer: trainer name.
    """

    training_cases: int = 15
    test_cases: int = 4
    folds: tuple[int, ...] = (0, 1)
    patch_size: tuple[int, int, int] = (32, 96, 96)
    batch_size: int = 1
    trainer: str = TRAINER


def demo_steps(root: Path, size: DemoSize) -> list[Step]:
    """Return the demo's commands in order; ``root`` receives all their files."""
    raw = root / "nnUNet_raw" / DATASET
    predictions = root / "predictions"
    model = ("-d", "17", "-c", CONFIGURATION, "-tr", size.trainer)
    folds = [str(fold) for fold in size.folds]
    phantom = ("--size", "demo", "--training", str(size.training_cases), "--testing", str(size.test_cases), "--zip")
    train = [
        Step(
            f"train_fold_{fold}",
            f"train fold {fold}",
            _program("nnUNetv2_train", "17", CONFIGURATION, fold, "-tr", size.trainer, "-device", "cpu", "--c"),
        )
        for fold in folds
    ]
    plan = ("-d", "17", "-c", "3d_fullres", "--verify_dataset_integrity", "-np", "2")
    return [
        Step("phantom", "make phantom CTs", _program("unetr_nnunet", "phantom", str(root / "download"), *phantom)),
        Step(
            "convert",
            "convert the download",
            _program("unetr_nnunet", "convert", "btcv", str(root / "download" / "RawData.zip"), "--overwrite"),
        ),
        Step("plan", "plan and preprocess", _program("nnUNetv2_plan_and_preprocess", *plan)),
        Step("configure", "add the demo configuration", (sys.executable, "-m", __name__, str(root), _as_json(size))),
        *train,
        Step(
            "predict",
            f"predict the test cases, {len(folds)} folds ensembled",
            _program(
                *("nnUNetv2_predict", *model, "-f", *folds, "-i", str(raw / "imagesTs"), "-o", str(predictions)),
                *("-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1"),
            ),
        ),
    ]


def run_demo(root: Path, size: DemoSize | None = None) -> tuple[Path, Path]:
    """Run the demo, or continue it.

    Args:
        root: folder for all files.
        size: how much to do.

    Returns:
        The folders of the predicted and of the true label maps of the test cases.
    """
    root = root.resolve()
    names = [EXTERNAL_TRAINERS, *FOLDERS]
    environment = {EXTERNAL_TRAINERS: nnunet_variables(root)[EXTERNAL_TRAINERS]}
    environment |= {name: str(root / name) for name in names if name in FOLDERS}
    run_steps(demo_steps(root, size or DemoSize()), root, environment)
    return root / "predictions", root / "download" / "Testing_labels"


def add_configuration(plans_file: Path, patch_size: Sequence[int], batch_size: int) -> None:
    """Add the demo's configuration to a plans file; it replaces an older one.

    Args:
        plans_file: nnU-Net's ``nnUNetPlans.json``.
        patch_size: patch (z, y, x) in voxels.
        batch_size: patches per iteration.
    """
    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    plans["configurations"][CONFIGURATION] = {
        "inherits_from": "3d_fullres",
        "patch_size": list(patch_size),
        "batch_size": batch_size,
    }
    with atomic_path(plans_file) as temporary:
        temporary.write_text(json.dumps(plans, indent=4), encoding="utf-8")


def _program(name: str, *words: str) -> tuple[str, ...]:
    """Return a command whose program lies beside this Python's, whatever PATH says."""
    return (str(Path(sys.executable).parent / name), *words)


def _as_json(size: DemoSize) -> str:
    return json.dumps([list(size.patch_size), size.batch_size])


if __name__ == "__main__":
    add_configuration(
        Path(sys.argv[1]) / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json", *json.loads(sys.argv[2])
    )
