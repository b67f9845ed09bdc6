"""What the trainer folder of a model tells: curves, cost, plan."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.nnunet.checkpoint_size import count_parameters
from unetr_nnunet.nnunet.training_log import FoldLog, read_fold_logs

CHECKPOINT = "checkpoint_final.pth"
TIMES = "\u00d7"
COSTS = "costs.json"


@dataclass(frozen=True)
class Training:
    """How a model came about, as far as its folders tell.

    Attributes:
        folder: the trainer folder; None where only predictions are at hand.
        logs: one for each fold.
        plans: content of ``plans.json``, empty where there is none.
        configuration: such as ``3d_fullres``; None where the folder's name does not tell.
        debug: content of the first fold's ``debug.json``, what nnU-Net wrote down of the training.
        costs: content of ``costs.json``: ``seconds_per_case``, ``peak_memory_gib``, ``device``, as far as recorded.
        problems: what could not be read.
    """

    folder: Path | None
    logs: list[FoldLog]
    plans: Mapping[str, Any]
    configuration: str | None
    debug: Mapping[str, Any]
    costs: Mapping[str, Any]
    problems: list[str]

    def checkpoints(self) -> list[Path]:
        """Return the final checkpoint of each fold that has one."""
        return sorted(self.folder.glob(f"fold_*/{CHECKPOINT}")) if self.folder else []

    def names(self) -> tuple[str, str, str] | None:
        """Return trainer, plans and configuration, as the folder's name has them."""
        words = self.folder.name.split("__") if self.folder else []
        return (words[0], words[1], words[2]) if len(words) == 3 else None


def read_training(model: ModelResults, folder: Path | None = None) -> Training:
    """Read what there is.

    Args:
        model: its folder may be a trainer folder, or lie in one.
        folder: the trainer folder, where the model's is one of predictions.
    """
    problems: list[str] = []
    found = folder or next((each for each in (model.folder, model.folder.parent) if is_trainer_folder(each)), None)
    places = list(dict.fromkeys(place for place in (found, model.folder) if place))
    debug_files = sorted(found.glob("fold_*/debug.json")) if found else []
    words = found.name.split("__") if found else []
    return Training(
        found,
        read_fold_logs(found) if found else [],
        _first_json([place / "plans.json" for place in places], problems),
        words[2] if len(words) == 3 else None,
        _first_json(debug_files, problems),
        _first_json([place / COSTS for place in reversed(places)], problems),
        problems,
    )


def is_trainer_folder(folder: Path) -> bool:
    """Return whether a folder holds trained folds."""
    return folder.is_dir() and any(each.is_dir() for each in folder.glob("fold_*"))


def _first_json(paths: list[Path], problems: list[str]) -> dict[str, Any]:
    for path in paths:
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                problems.append(f"{path} cannot be read: {error}")
                continue
            if isinstance(content, dict):
                return content
            problems.append(f"{path} holds no JSON object")
    return {}


def cost_row(training: Training) -> dict[str, Any]:
    """Return parameters, hours, seconds and memory, None where they are not recorded."""
    parameters = None
    for checkpoint in training.checkpoints()[:1]:
        with contextlib.suppress(ValueError):
            parameters = count_parameters(checkpoint)
    validated = [log for log in training.logs if log.validation_seconds is not None and log.validated]
    cases = sum(log.validated for log in validated)
    seconds = sum(log.validation_seconds or 0.0 for log in validated)
    hours = [log.training_hours() for log in training.logs]
    return {
        "parameters": parameters,
        "folds": len(training.logs),
        "hours": fmean(hours) if hours else None,
        "epochs": max((len(log.epochs) for log in training.logs), default=None),
        "validation_seconds": seconds / cases if cases else None,
        "validation_cases": cases,
        "seconds": _number(training.costs.get("seconds_per_case")),
        "memory": _number(training.costs.get("peak_memory_gib")),
        "device": training.costs.get("device") or training.debug.get("gpu_name") or training.debug.get("device"),
        "torch": training.debug.get("torch_version"),
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def plan_rows(training: Training) -> dict[str, str]:
    """Return the plan in a few lines: what, and how much of it. Sizes are (z, y, x)."""
    if not training.plans:
        return {}
    plans = training.plans
    rows = {"data set": plans.get("dataset_name"), "plans": plans.get("plans_name")}
    if training.configuration is None:
        listed = ", ".join(plans.get("configurations", {}))
        return _texts({**rows, "configuration": f"not recorded; the plans hold {listed}"})
    configuration = _configuration(plans, training.configuration)
    network = configuration.get("architecture", {}).get("network_class_name") or configuration.get("UNet_class_name")
    return _texts(
        {
            **rows,
            "configuration": training.configuration,
            "network": training.debug.get("network") or network,
            "patch, voxels": _size(configuration.get("patch_size")),
            "spacing, mm": _size(configuration.get("spacing")),
            "patch, mm": _patch_mm(configuration),
            "median image, voxels": _size(configuration.get("median_image_size_in_voxels")),
            "batch size": configuration.get("batch_size"),
            "normalisation": ", ".join(configuration.get("normalization_schemes", [])),
            "image reader": plans.get("image_reader_writer"),
            "epochs": training.debug.get("num_epochs"),
            "optimiser": _first_word(training.debug.get("optimizer")),
            "learning rate": training.debug.get("initial_lr"),
            "weight decay": training.debug.get("weight_decay"),
        }
    )


def _texts(rows: Mapping[str, Any]) -> dict[str, str]:
    return {what: str(value) for what, value in rows.items() if value not in (None, "", "None")}


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with all that it inherits."""
    chain: list[Mapping[str, Any]] = []
    known = plans.get("configurations", {})
    while name in known and known[name] not in chain:
        chain.append(known[name])
        name = known[name].get("inherits_from", "")
    return {key: value for each in reversed(chain) for key, value in each.items()}


def _size(values: Any) -> str:
    return f" {TIMES} ".join(f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in values) if values else ""


def _patch_mm(configuration: Mapping[str, Any]) -> str:
    patch, spacing = configuration.get("patch_size"), configuration.get("spacing")
    if not patch or not spacing or len(patch) != len(spacing):
        return ""
    return f" {TIMES} ".join(f"{size * step:.0f}" for size, step in zip(patch, spacing, strict=True))


def _first_word(words: Any) -> str:
    found = re.match(r"\w+", str(words or ""))
    return found.group() if found else ""
