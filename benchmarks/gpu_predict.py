"""Prediction of a whole CT, ours beside nnU-Net's, as a stage of `benchmarks.gpu`.

Both commands run whole, in a fresh process, on one CT, with the weights that the training stage left. Without these the
weights are untrained, and time and agreement mean less: how many windows get a second look depends on the logits, and
many logits are nearly equal. "Without mirroring" is the same model without its mirror axes. The GPU's memory is what
the command takes of the device, its context included; main memory is the largest sum over its processes.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import SimpleITK as sitk
import torch

from benchmarks.gpu_stage import (
    CONFIGURATION,
    GIB,
    NOT_ON_A_CPU,
    GpuMemory,
    Stage,
    command,
    main_memory,
    run_stage,
    stop,
)

AGREEMENT = 0.999
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
LEAST_SECONDS = 10
"""Time under which no further command is started."""


@dataclass(frozen=True)
class Models:
    """Folders of one model, with and without its mirror axes.

    Attributes:
        mirrored: as it was trained.
        plain: without mirroring.
        trained: whether the training stage left weights.
    """

    mirrored: Path
    plain: Path
    trained: bool


def prepare_models(stage: Stage) -> Models:
    """Return the trained model with and without mirroring; an untrained one if there is no trained one."""
    fold = stage.model / "fold_0"
    trained = next((fold / name for name in CHECKPOINTS if (fold / name).is_file()), None)
    if trained is None:
        trained = _untrained(stage)
    models = Models(stage.work / "mirrored", stage.work / "plain", trained.parent == fold)
    checkpoint = torch.load(trained, map_location="cpu", weights_only=False)
    for folder in (models.mirrored, models.plain):
        (folder / "fold_0").mkdir(parents=True, exist_ok=True)
        for name in ("dataset.json", "nnUNetPlans.json"):
            shutil.copy(stage.preprocessed / name, folder / name.replace("nnUNetPlans", "plans"))
        if folder == models.plain:
            checkpoint["inference_allowed_mirroring_axes"] = None
        torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return models


def _untrained(stage: Stage) -> Path:
    import os

    os.environ.update(stage.environment)
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer: Any = get_trainer_from_args("17", CONFIGURATION, 0, stage.trainer, device=torch.device("cpu"))
    trainer.initialize()
    trainer.inference_allowed_mirroring_axes = (0, 1, 2)
    path = stage.work / "untrained" / "checkpoint_final.pth"
    path.parent.mkdir()
    trainer.save_checkpoint(str(path))
    return path


def predict(stage: Stage) -> None:
    """Predict with both commands, with and without mirroring, and compare the GPU with the CPU."""
    models = prepare_models(stage)
    runs = {"with": models.mirrored, "without": models.plain}
    masks = {
        mirroring: _run(stage, "unetr_nnunet predict", mirroring, model, models.trained)
        for mirroring, model in runs.items()
    }
    _compare_devices(stage, models)
    for mirroring, model in runs.items():
        _run(stage, "nnUNetv2_predict", mirroring, model, models.trained, masks[mirroring])


def _run(stage: Stage, name: str, mirroring: str, model: Path, trained: bool, other: Path | None = None) -> Path | None:
    """Run a command whole and report it, compared with another's label map; return its own."""
    target = stage.work / "predictions" / f"{name.split()[0]} {mirroring}"
    target.parent.mkdir(exist_ok=True)
    figures: dict[str, Any] = {
        "command": name,
        "mirroring": mirroring,
        "weights": "trained" if trained else "untrained",
    }
    folders = ("-i", str(stage.work / "inputs"), "-o", str(target), "-m", str(model))
    if name == "nnUNetv2_predict":
        words = ("-f", "0", "-device", stage.device, "-npp", "1", "-nps", "1")
        words = command("nnUNetv2_predict_from_modelfolder", *folders, *words)
    else:
        words = command("unetr_nnunet", "predict", *folders, "--device", stage.device)
    missed = ""
    if stage.seconds_left < LEAST_SECONDS:
        missed = "not begun in the stage's time"
    else:
        code, measured = _watched(stage, words)
        figures |= measured
        missed = "" if code == 0 else f"exit code {code}" if code else "not done in the stage's time"
    if missed:
        stage.report(figures, missed)
        return None
    mask = target / "case.nii.gz"
    labels = _labels(mask)
    figures["labels found"] = len(np.unique(labels[labels > 0]))
    if other is not None:
        figures["agreement"] = float(np.mean(labels == _labels(other)))
    stage.report(figures)
    return mask


def _watched(stage: Stage, words: list[str]) -> tuple[int | None, dict[str, Any]]:
    """Return a command's exit code, None where the time was not enough, and what it took."""
    gpu = GpuMemory() if stage.on_gpu else None
    start, main_bytes = time.perf_counter(), 0
    process = subprocess.Popen(words, env=stage.environment)
    tree = psutil.Process(process.pid)
    while process.poll() is None and stage.seconds_left > LEAST_SECONDS / 2:
        main_bytes = max(main_bytes, main_memory(tree))
        if gpu:
            gpu.look()
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    if process.returncode is None:
        stop(process)
        return None, {}
    on_gpu = {"seconds": seconds, "GPU, GiB": gpu.peak / GIB} if gpu else {}
    return process.returncode, {
        "seconds": NOT_ON_A_CPU,
        "GPU, GiB": NOT_ON_A_CPU,
        "main memory, GiB": main_bytes / GIB,
        **on_gpu,
    }


def _compare_devices(stage: Stage, models: Models) -> None:
    """Compare the label maps of GPU and CPU, on a quarter of the CT's slices.

    With ``--exact`` the CPU computes in float32, and the bound holds; without, in bfloat16 where the processor has it.
    """
    figures: dict[str, Any] = {"command": "predict, GPU beside CPU", "mirroring": "without"}
    if not stage.on_gpu:
        stage.report({**figures, "agreement": NOT_ON_A_CPU})
        return
    from unetr_nnunet.inference.fidelity import Fidelity
    from unetr_nnunet.inference.model import load_model
    from unetr_nnunet.inference.predictor import Predictor

    ct, model = quarter(stage), load_model(models.plain, None)
    for fidelity in (Fidelity.EXACT, Fidelity.DEFAULT):
        maps = {
            device: sitk.GetArrayFromImage(Predictor([model], device, fidelity).predict([ct]))
            for device in ("cuda", "cpu")
        }
        agreement = float(np.mean(maps["cuda"] == maps["cpu"]))
        figures |= {"labels found": len(np.unique(maps["cpu"])) - 1, "agreement": agreement}
        missed = ""
        exact = fidelity is Fidelity.EXACT
        if exact and models.trained and agreement < AGREEMENT:
            missed = f"they agree on {agreement:.4%} of the voxels"
        stage.report(
            {**figures, "command": f"predict{' --exact' * exact}, GPU beside CPU, a quarter of the CT"}, missed
        )
    torch.cuda.empty_cache()


def quarter(stage: Stage) -> sitk.Image:
    """Return a quarter of the CT's slices, from its middle."""
    ct = sitk.ReadImage(str(stage.work / "inputs" / "case_0000.nii.gz"))
    slices = ct.GetSize()[2]
    return ct[:, :, slices * 3 // 8 : slices * 5 // 8]


def _labels(mask: Path) -> Any:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(mask)))


if __name__ == "__main__":
    sys.exit(run_stage(predict))
