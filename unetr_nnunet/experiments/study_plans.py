"""The plans of a study: made once, and from then on the same, since models of two plans must not be mixed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.experiments.study import DEFAULT_PLANS, Study

DEFAULT_PLANNER = "ExperimentPlanner"
FOLDER = "plans"
_ADDED_BY_TRAINING = "continue_training"


def read_plans(path: Path) -> dict[str, Any] | None:
    """Return the content of a plans file; None where it is missing or half written."""
    content = read_json_file(path)
    return content if isinstance(content, dict) and "configurations" in content else None


def planning_commands(study: Study, preprocessed: Path, processes: int) -> list[tuple[str, ...]]:
    """Return the commands that make what is missing: the fingerprint, and plans.

    Raises:
        ValueError: plans are missing that the study does not say how to make.
    """
    number = str(study.dataset)
    commands: list[tuple[str, ...]] = []
    if read_json_file(preprocessed / "dataset_fingerprint.json") is None:
        commands.append(("nnUNetv2_extract_fingerprint", "-d", number, "-np", str(processes), "--clean"))
    for name in study.plan_names:
        if read_plans(preprocessed / f"{name}.json") is None:
            commands.append(_planning_command(name, number, study.plans.get(name)))
    return commands


def _planning_command(name: str, number: str, how: Mapping[str, Any] | None) -> tuple[str, ...]:
    if how is None and name == DEFAULT_PLANS:
        how = {"planner": DEFAULT_PLANNER}
    if how is None:
        raise ValueError(
            f"there are no plans {name}: make them (`unetr_nnunet plan --name {name}`), or say how in [plans.{name}]"
        )
    if "planner" in how:
        return ("nnUNetv2_plan_experiment", "-d", number, "-pl", how["planner"], "-overwrite_plans_name", name)
    options = [word for key, value in how.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    return ("unetr_nnunet", "plan", "-d", number, "--name", name, *options)


def read_json_file(path: Path) -> Any:
    """Return the content of a JSON file; None where it is missing or half written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def complete_plans(study: Study, preprocessed: Path, folder: Path) -> None:
    """Add the study's configurations to its plans, and keep a copy of each to compare with later.

    Args:
        study: the study.
        preprocessed: the data set's folder in ``nnUNet_preprocessed``.
        folder: the study's.
    """
    for name in study.plan_names:
        path = preprocessed / f"{name}.json"
        plans = read_plans(path)
        if plans is None:
            raise ValueError(f"{path} was not made; the log above says why")
        missing = {
            key: dict(value) for key, value in study.configurations.items() if value != plans["configurations"].get(key)
        }
        if missing:
            plans["configurations"] |= missing
            write_json_file(plans, path)
        write_json_file(plans, folder / FOLDER / path.name)


def write_json_file(content: Any, path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=4), encoding="utf-8")


def refuse_edited_plans(study: Study, preprocessed: Path, results: Path, folder: Path) -> None:
    """Refuse to go on with plans that are not those which data were preprocessed, or models trained, with.

    Args:
        study: the study.
        preprocessed: the data set's folder in ``nnUNet_preprocessed``.
        results: the data set's folder in ``nnUNet_results``.
        folder: the study's.

    Raises:
        ValueError: they differ; the message names the file, what has changed and the remedy.
    """
    for name in study.plan_names:
        path = preprocessed / f"{name}.json"
        now = read_plans(path)
        if now is None:
            continue
        added = {key: dict(value) for key, value in study.configurations.items()}
        completed = {**now, "configurations": now["configurations"] | added}  # as `complete_plans` will write them
        now["configurations"] = added | now["configurations"]
        earlier = {folder / FOLDER / path.name: "this study has preprocessed the data"}
        for model in study.models:
            trained = results / model.identifier
            if model.plans == name and any(trained.glob("fold_*/checkpoint_*.pth")):
                earlier[trained / "plans.json"] = f"{model.identifier} was trained"
        for copy, since in earlier.items():
            before = read_plans(copy)
            if before is None:
                continue
            if changed := _differences(before, now):
                raise ValueError(
                    f"{path} has been edited since {since}: {', '.join(changed)}. Copy {copy} back over it; or give "
                    "the edited plans a name of their own (their file's and `plans_name` in it) and name that"
                )
            if changed := _differences(before, completed):
                raise ValueError(
                    f"the study has changed since {since}: {', '.join(changed)}. Restore what its [configurations] "
                    f"said (see {copy}), or give the changed configuration another name"
                )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name the settings that differ; a configuration that came later is none."""
    changed = []
    for key in dict.fromkeys([*before, *now]):
        if key == _ADDED_BY_TRAINING or (key not in before and prefix == "configurations."):
            continue
        one, other = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            changed += _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            changed.append(f"{prefix}{key}")
    return changed
