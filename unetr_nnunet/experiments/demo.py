"""The demo: the whole way from a BTCV-like download to per-organ Dice, on the phantom, in minutes, on a CPU.

Every step is a command that a user would type; `demo_stages` is the list. Only the configuration is smaller than what
nnU-Net plans: ``demo`` inherits ``3d_fullres`` (nnU-Net's documented way to change a plan) with a coarser spacing, at
which a small patch holds half of the body's width, as its own ``3d_lowres`` does for large images. Augmentation is left
out: a thousand steps are too few to profit from it.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.experiments.steps import Step, program, run_steps
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, nnunet_variables

DATASET = "Dataset017_BTCV"
CONFIGURATION = "demo"


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Attributes:
        training_cases: labelled phantoms.
        test_cases: held-out phantoms.
        folds: folds of the five-fold cross-validation that are trained, side by side, and then ensembled.
        spacing_mm: voxel spacing (z, y, x) of the configuration.
        patch_size: training patch (z, y, x) in voxels.
        batch_size: patches per iteration.
        trainer: trainer name.
    """

    training_cases: int = 15
    test_cases: int = 4
    folds: tuple[int, ...] = (0, 1)
    spacing_mm: tuple[float, float, float] = (8.0, 6.0, 6.0)
    patch_size: tuple[int, int, int] = (32, 32, 32)
    batch_size: int = 2
    trainer: str = "nnUNetTrainerUNETR_Tiny_NoAug_5epochs_seed0"


def demo_stages(root: Path, size: DemoSize) -> list[list[Step]]:
    """Return the demo's commands in order, those that run side by side together; ``root`` receives all their files."""
    raw = root / "nnUNet_raw" / DATASET
    folds = [str(fold) for fold in size.folds]
    phantom = ("--size", "demo", "--training", str(size.training_cases), "--testing", str(size.test_cases), "--zip")
    train = [
        Step(
            f"train_fold_{fold}",
            f"train fold {fold}",
            program("nnUNetv2_train", "17", CONFIGURATION, fold, "-tr", size.trainer, "-device", "cpu", "--c"),
        )
        for fold in folds
    ]
    download = root / "download"
    model = ("-d", "17", "-c", CONFIGURATION, "-tr", size.trainer, "-f", *folds)
    images = ("-i", str(raw / "imagesTs"), "-o", str(root / "predictions"))
    before_training = [
        Step("phantom", "make phantom CTs", program("unetr_nnunet", "phantom", str(download), *phantom)),
        Step(
            "convert",
            "convert the download",
            program("unetr_nnunet", "convert", "btcv", str(download / "RawData.zip"), "--overwrite"),
        ),
        Step(
            "plan",
            "fingerprint and plan",
            program("nnUNetv2_plan_and_preprocess", "-d", "17", "--no_pp", "--clean", "-npfp", "2"),
        ),
        Step(
            "configure",
            "add the demo configuration and the split",
            (sys.executable, "-m", __name__, str(root), _as_json(size)),
        ),
        Step("preprocess", "preprocess", program("nnUNetv2_preprocess", "-d", "17", "-c", CONFIGURATION, "-np", "2")),
    ]
    predict = Step(
        "predict",
        "predict the test cases with the folds ensembled",
        program("unetr_nnunet", "predict", *model, *images, "--device", "cpu"),
    )
    return [*([step] for step in before_training), train, [predict]]


def run_demo(root: Path, size: DemoSize | None = None) -> tuple[Path, Path]:
    """Run the demo, or continue it.

    Args:
        root: folder for all files.
        size: how much to do.

    Returns:
        The folders of the predicted and of the true label maps of the test cases.
    """
    root = root.resolve()
    size = size or DemoSize()
    share = str(max(1, (os.cpu_count() or 1) // len(size.folds)))  # of the cores, for each fold
    environment = {
        EXTERNAL_TRAINERS: nnunet_variables(root)[EXTERNAL_TRAINERS],
        **{name: str(root / name) for name in FOLDERS},
        "OMP_NUM_THREADS": share,
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": share,  # starting nnU-Net's default of eight processes takes minutes on few cores
    }
    run_steps(demo_stages(root, size), root, environment)
    return root / "predictions", root / "download" / "Testing_labels"


def add_configuration(
    plans_file: Path, *, patch_size: Sequence[int], batch_size: int, spacing_mm: Sequence[float] | None = None
) -> None:
    """Add the demo's configuration to a plans file; it replaces an older one.

    Args:
        plans_file: nnU-Net's ``nnUNetPlans.json``.
        patch_size: patch (z, y, x) in voxels.
        batch_size: patches per iteration.
        spacing_mm: voxel spacing (z, y, x); None keeps that of ``3d_fullres``, and shares its preprocessed data.
    """
    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    configuration: dict[str, object] = {
        "inherits_from": "3d_fullres",
        "patch_size": list(patch_size),
        "batch_size": batch_size,
        "batch_dice": True,  # a small patch lacks most organs, and their Dice alone says nothing
    }
    if spacing_mm is not None:
        configuration |= {"spacing": list(spacing_mm), "data_identifier": f"nnUNetPlans_{CONFIGURATION}"}
    plans["configurations"][CONFIGURATION] = configuration
    with atomic_path(plans_file) as temporary:
        temporary.write_text(json.dumps(plans, indent=4), encoding="utf-8")


def _as_json(size: DemoSize) -> str:
    return json.dumps({name: asdict(size)[name] for name in ("patch_size", "batch_size", "spacing_mm")})


def start_afresh(root: Path) -> None:
    """Remove what a demo with other settings left, and write the split that nnU-Net itself would draw.

    Without it a training would continue with the old model, and two folds that start together would both write a split.
    """
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    preprocessed = root / "nnUNet_preprocessed" / DATASET
    for old in (root / "nnUNet_results" / DATASET, preprocessed / f"nnUNetPlans_{CONFIGURATION}", root / "predictions"):
        shutil.rmtree(old, ignore_errors=True)
    labels = (root / "nnUNet_raw" / DATASET / "labelsTr").glob("*.nii.gz")
    cases = sorted(path.name.removesuffix(".nii.gz") for path in labels)
    with atomic_path(preprocessed / "splits_final.json") as temporary:
        temporary.write_text(json.dumps(generate_crossval_split(cases, seed=12345, n_splits=5)), encoding="utf-8")


if __name__ == "__main__":
    start_afresh(Path(sys.argv[1]))
    add_configuration(
        Path(sys.argv[1]) / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json", **json.loads(sys.argv[2])
    )
