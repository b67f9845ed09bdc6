"""Read learning curves, cost and plan from the trainer folder of a model."""

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.nnunet.checkpoint_size import count_parameters
from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT, fold_folders
from unetr_nnunet.nnunet.json_file import JSON_OBJECT, read_json
from unetr_nnunet.nnunet.training_log import FoldLog, read_fold_logs

TIMES = "\u00d7"
COSTS = "costs.json"


@dataclass(frozen=True)
class Training:
    """The training of a model, as far as its folders record it.

    Attributes:
        folder: the trainer folder; None where only predictions are at hand.
        logs: one for each fold.
        plans: content of ``plans.json``, empty if missing.
        names: trainer, plans and configuration; None where the folder's name does not tell.
        debug: content of the first fold's ``debug.json``, what nnU-Net wrote down of the training.
        costs: content of ``costs.json``: ``seconds_per_case``, ``peak_memory_gib``, ``device``, if recorded.
        problems: what could not be read.
    """

    folder: Path | None
    logs: list[FoldLog]
    plans: Mapping[str, Any]
    names: tuple[str, str, str] | None
    debug: Mapping[str, Any]
    costs: Mapping[str, Any]
    problems: list[str]

    def checkpoints(self) -> list[Path]:
        """Return the final checkpoint of each fold that has one."""
        return sorted(self.folder.glob(f"fold_*/{FINAL_CHECKPOINT}")) if self.folder else []


def read_training(model: ModelResults, folder: Path | None = None) -> Training:
    """Read the training of a model from its folders; missing files are left out.

    Args:
        model: its folder may be a trainer folder, or lie in one.
        folder: the trainer folder, where the model's is one of predictions.
    """
    problems: list[str] = []
    folder = folder or next((place for place in (model.folder, model.folder.parent) if fold_folders(place)), None)
    places = list(dict.fromkeys(place for place in (folder, model.folder) if place))
    names = folder.name.split("__") if folder else []
    return Training(
        folder,
        read_fold_logs(folder) if folder else [],
        _first_json([place / "plans.json" for place in places], problems),
        (names[0], names[1], names[2]) if len(names) == 3 else None,
        _first_json(sorted(folder.glob("fold_*/debug.json")) if folder else [], problems),
        _first_json([place / COSTS for place in reversed(places)], problems),
        problems,
    )


def _first_json(paths: list[Path], problems: list[str]) -> dict[str, Any]:
    for path in paths:
        if path.is_file():
            try:
                return read_json(path, JSON_OBJECT, "it is left out")
            except ValueError as error:
                problems.append(str(error))
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
    plans, debug = training.plans, training.debug
    if not plans:
        return {}
    rows = {"data set": plans.get("dataset_name"), "plans": plans.get("plans_name")}
    if training.names is None:
        rows["configuration"] = f"not recorded; the plans hold {', '.join(plans.get('configurations', {}))}"
    else:
        configuration = _configuration(plans, training.names[2])
        network = configuration.get("architecture", {}).get("network_class_name")
        planned = configuration.get("architecture", {}).get("arch_kwargs", {})
        patch, spacing = configuration.get("patch_size") or [], configuration.get("spacing") or []
        patch_mm = [size * step for size, step in zip(patch, spacing, strict=False)]  # 2-D patches, 3-D spacing
        rows |= {
            "configuration": training.names[2],
            "architecture": debug.get("planned_network") or _origin(planned),
            "network": debug.get("network") or network or configuration.get("UNet_class_name"),
            "patch, voxels": _size(patch),
            "spacing, mm": _size(spacing),
            "patch, mm": _size(map(round, patch_mm)) if len(patch) == len(spacing) else None,
            "median image, voxels": _size(configuration.get("median_image_size_in_voxels") or []),
            "batch size": configuration.get("batch_size"),
            "normalisation": ", ".join(configuration.get("normalization_schemes", [])),
            "image reader": plans.get("image_reader_writer"),
            "epochs": debug.get("num_epochs"),
            "optimiser": re.sub(r"\W.*", "", str(debug.get("optimizer") or ""), flags=re.DOTALL),
            "learning rate": debug.get("initial_lr"),
            "weight decay": debug.get("weight_decay"),
        }
    return {what: str(value) for what, value in rows.items() if value not in (None, "", "None")}


def _origin(planned: Mapping[str, Any]) -> str | None:
    """Return the architecture that plans name, with package and version."""
    if not {"architecture", "package", "version"} <= set(planned):
        return None
    return f"{planned['architecture']} ({planned['package']} {planned['version']})"


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with all that it inherits."""
    configuration: dict[str, Any] = {}
    inherited = dict(plans.get("configurations", {}))
    while name in inherited:
        configuration = {**inherited[name], **configuration}
        name = inherited.pop(name).get("inherits_from", "")
    return configuration


def _size(values: Iterable[float]) -> str:
    return f" {TIMES} ".join(f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in values)
