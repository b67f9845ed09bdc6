"""Collect everything needed to reproduce the figures: commands, versions, seeds, hashes."""

import datetime
import hashlib
import json
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.predicted_folders import READERS
from unetr_nnunet.images.files import hash_file
from unetr_nnunet.report.models import ReportedModels
from unetr_nnunet.report.training import Training

PACKAGES = ("unetr_nnunet", "nnunetv2", "torch", "numpy", "scipy", "SimpleITK", "nibabel")


def context(
    reported: ReportedModels, trainings: Mapping[str, Training], command: Sequence[str] | None
) -> dict[str, Any]:
    """Return what the template needs."""
    return {
        "models": [_model(reported, model, trainings[model.name]) for model in reported.trainings],
        "labels": sorted({model.evaluation.labels for model in reported.trainings}),
        "labels_hash": hash_files(path for model in reported.trainings for path in model.labels.values()),
        "report_command": shlex.join(command) if command else None,
        "versions": [("Python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _model(reported: ReportedModels, model: ModelResults, training: Training) -> dict[str, Any]:
    place = training.folder or model.folder
    plan = (place / name for name in ("plans.json", "dataset.json"))
    files = [*(path for path in plan if path.is_file()), *training.checkpoints()]
    return {
        "name": reported.short(model),
        "full_name": model.name,
        "folder": model.folder,
        "seed": model.seed,
        "torch": training.debug.get("torch_version"),
        "commands": commands(model, training),
        "hashes": [(str(path.relative_to(place)), hash_file(path)) for path in files],
        "masks": len(model.predictions),
        "masks_hash": hash_files(model.predictions.values()),
    }


def commands(model: ModelResults, training: Training) -> list[str]:
    """Return the commands that trained, predicted and scored, as far as the files record them."""
    lines, trained = [], []
    if training.folder and training.names:
        dataset, (trainer, plans, configuration) = training.folder.parent.name, training.names
        for log in training.logs:
            lines.append(["nnUNetv2_train", dataset, configuration, log.fold, "-tr", trainer, "-p", plans])
        trained = ["-d", dataset, "-c", configuration, "-tr", trainer, "-p", plans, "-f"]
        trained += [log.fold for log in training.logs]
    source = _prediction_arguments(model.folder).get("list_of_lists_or_source_folder")
    if isinstance(source, str):
        lines.append(["nnUNetv2_predict", "-i", source, "-o", str(model.folder), *trained])
    return [*map(shlex.join, lines), *_scoring(model)]


def _scoring(model: ModelResults) -> list[str]:
    """Return a command for each folder of masks, such as a fold's; for figures without masks, their file."""
    masks, figures = set(), set()
    for name, case in model.evaluation.cases.items():
        if model.folder.is_file():
            figures.add(str(model.folder))
        elif name in model.predictions and name in model.labels:
            masks.add((str(model.predictions[name].parent), str(model.labels[name].parent)))
        else:
            figures.add(str(_figures_beside(Path(case.prediction)) or model.folder))
    protocol = model.evaluation.protocol.name
    scored = [shlex.join(["unetr_nnunet", "evaluate", *folders, "--protocol", protocol]) for folders in sorted(masks)]
    return [*scored, *(f"# figures taken from {path}" for path in sorted(figures))]


def _figures_beside(mask: Path) -> Path | None:
    return next((path for name in READERS if (path := mask.parent / name).is_file()), None)


def _prediction_arguments(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "predict_from_raw_data_args.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def image_folder(models: Iterable[ModelResults]) -> Path | None:
    """Return the folder of CTs that nnU-Net predicted from, where it is still there."""
    for model in models:
        source = _prediction_arguments(model.folder).get("list_of_lists_or_source_folder")
        if isinstance(source, str) and Path(source).is_dir():
            return Path(source)
    return None


def hash_files(paths: Iterable[Path]) -> str | None:
    """Return one SHA-256 over files, regardless of their folders and order; None without files.

    It is that of ``sha256sum FILES | awk '{print $1}' | sort -u | sha256sum``.
    """
    digests = sorted({hash_file(path) for path in set(paths) if path.is_file()})
    if not digests:
        return None
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
