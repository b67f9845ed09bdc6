"""The plans of a study: made once and never changed, because models of different plans must not be mixed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import write_json
from unetr_nnunet.experiments.study import Model, Study
from unetr_nnunet.nnunet.json_file import read_if_whole
from unetr_nnunet.nnunet.plans_file import DEFAULT_PLANS
from unetr_nnunet.nnunet.splits import read_splits

DEFAULT_PLANNER = "ExperimentPlanner"
FOLDER = "plans"
_PLANNED_BY_NNUNET: Mapping[str, Mapping[str, Any]] = {
    "2d": {},
    "3d_lowres": {},
    "3d_fullres": {},
    "3d_cascade_fullres": {"previous_stage": "3d_lowres"},
}
_ADDED_BY_TRAINING = "continue_training"


def plans_if_made(path: Path) -> dict[str, Any] | None:
    """Return the content of a plans file; None where it is missing or half written."""
    content = read_if_whole(path)
    return content if isinstance(content, dict) and "configurations" in content else None


def planning_commands(study: Study, preprocessed: Path, processes: int) -> list[tuple[str, ...]]:
    """Return the commands that make what is missing: the fingerprint, and plans.

    Raises:
        ValueError: plans are missing that the study does not say how to make.
    """
    number = str(study.dataset)
    commands: list[tuple[str, ...]] = []
    if read_if_whole(preprocessed / "dataset_fingerprint.json") is None:
        commands.append(("nnUNetv2_extract_fingerprint", "-d", number, "-np", str(processes), "--clean"))
    for name in study.plan_names:
        if plans_if_made(preprocessed / f"{name}.json") is None:
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
    options = []
    for key, value in how.items():
        options += [f"--{key.replace('_', '-')}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return ("unetr_nnunet", "plan", "-d", number, "--name", name, *options)


def complete_plans(study: Study, preprocessed: Path, folder: Path) -> None:
    """Add the study's configurations to its plans, and keep a copy of each to compare with later.

    Args:
        study: the study.
        preprocessed: the data set's folder in ``nnUNet_preprocessed``.
        folder: the study's.
    """
    for name in study.plan_names:
        path = preprocessed / f"{name}.json"
        plans = plans_if_made(path)
        if plans is None:
            raise ValueError(f"{path} was not made; the log above says why")
        missing = {
            key: dict(value) for key, value in study.configurations.items() if value != plans["configurations"].get(key)
        }
        if missing:
            plans["configurations"] |= missing
            write_json(plans, path)
        write_json(plans, folder / FOLDER / path.name)


def refuse_impossible_trainings(study: Study, preprocessed: Path, gpus_per_training: int) -> None:
    """Refuse what the plans cannot train; plans that are not made yet are taken to hold what nnU-Net plans.

    Args:
        study: the study.
        preprocessed: the data set's folder in ``nnUNet_preprocessed``.
        gpus_per_training: GPUs that share the batches of one training.

    Raises:
        ValueError: a configuration is not in its plans, needs the predictions of another, or has smaller batches than
            there are GPUs for one training.
    """
    for model in study.models:
        plans = plans_if_made(preprocessed / f"{model.plans}.json")
        planned = _PLANNED_BY_NNUNET if plans is None else plans["configurations"]
        _refuse_impossible(model, {**planned, **study.configurations}, gpus_per_training)


def _refuse_impossible(model: Model, configurations: Mapping[str, Mapping[str, Any]], gpus: int) -> None:
    settings: dict[str, Any] = {}
    name: str | None = model.configuration
    seen: list[str] = []
    while name is not None:
        if name not in configurations or name in seen:
            there = ", ".join(configurations)
            inherits = f" (which {seen[-1]} inherits from)" if seen else ""
            raise ValueError(f"plans {model.plans} have no configuration {name}{inherits}; they have {there}")
        seen.append(name)
        settings = dict(configurations[name]) | settings
        name = configurations[name].get("inherits_from")
    if settings.get("previous_stage"):
        raise ValueError(
            f"{model.configuration} of {model.plans} needs the predictions of {settings['previous_stage']}, "
            "which a study does not make: choose another configuration"
        )
    batch_size = settings.get("batch_size")
    if isinstance(batch_size, int) and batch_size < gpus:
        raise ValueError(
            f"--gpus-per-training {gpus}: {model.configuration} of {model.plans} has batch size {batch_size}, and each "
            f"GPU needs a sample of its own: use at most {batch_size}, or plan a larger batch"
        )


def refuse_missing_folds(study: Study, *splits: Path) -> None:
    """Refuse folds that a split file does not have; nnU-Net would draw a random split for such a fold.

    Args:
        study: the study.
        splits: the files; the first that is there counts, and where none is, nnU-Net draws five folds.

    Raises:
        ValueError: the message names the file and the fold.
    """
    path = next((path for path in splits if path.is_file()), None)
    there = len(read_splits(path)) if path else 5
    beyond = [fold for fold in study.folds if fold >= there]
    if beyond:
        raise ValueError(f"{path} has {there} fold(s), no fold {beyond[0]}: name some of 0 to {there - 1}")


def refuse_edited_plans(study: Study, preprocessed: Path, results: Path, folder: Path) -> None:
    """Refuse to continue with plans other than those that data were preprocessed or models trained with.

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
        now = plans_if_made(path)
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
            before = plans_if_made(copy)
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
    """Name the settings that differ, except in configurations that were added later."""
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
