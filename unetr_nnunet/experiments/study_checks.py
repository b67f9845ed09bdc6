"""Checks before a study starts: refuse what must fail, and mark lost results so that they are made again."""

import argparse
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from unetr_nnunet.dataset_conversion.check_raw import check_raw_dataset
from unetr_nnunet.dataset_conversion.raw_dataset import CONVERSION_FILE
from unetr_nnunet.dataset_conversion.sources import DATA_SETS
from unetr_nnunet.experiments.settings import FILE as SETTINGS
from unetr_nnunet.experiments.settings import Settings, read_settings
from unetr_nnunet.experiments.study import FILE, Study, read_study
from unetr_nnunet.experiments.study_plans import (
    planning_commands,
    refuse_edited_plans,
    refuse_impossible_trainings,
    refuse_missing_folds,
)
from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT, DatasetFolders, dataset_if_there, find_dataset
from unetr_nnunet.nnunet.json_file import read_if_whole
from unetr_nnunet.nnunet.splits import FILE_NAME as SPLITS_FILE
from unetr_nnunet.nnunet.stock_trainers import stock_trainers
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder
from unetr_nnunet.trainers.names import BASE_NAME, is_parsed


def check(study: Study, settings: Settings, folder: Path) -> None:
    """Refuse what must fail, before anything is planned or trained.

    Raises:
        FileNotFoundError: there is no data set, and nothing says how to make it.
        ValueError: the folder is another study's or of something else, or cannot be written, a trainer does not exist,
            plans cannot be made, were edited since or do not fit, or the raw data have problems; the message says how
            to mend it.
    """
    _refuse_other_content(study, folder)
    _refuse_other_folders(settings.folders, folder)
    for place in (folder, *map(Path, settings.folders.values())):
        _refuse_closed(place)
    _refuse_unknown_trainers(study)
    data = dataset_if_there(study.dataset)
    if data is None and not study.data:
        find_dataset(study.dataset)  # says how to make it
    preprocessed = data.preprocessed if data else Path(os.devnull)
    planning_commands(study, preprocessed, 1)
    refuse_impossible_trainings(study, preprocessed, settings.gpus_per_training)
    if data is None:
        return
    _refuse_other_conversion(study, data.raw)
    refuse_edited_plans(study, data.preprocessed, data.results, folder)
    refuse_missing_folds(study, data.preprocessed / SPLITS_FILE, data.raw / SPLITS_FILE)
    check_raw_dataset(data.raw, data.preprocessed)


def _refuse_other_content(study: Study, folder: Path) -> None:
    """Refuse a folder that is not a study's, or another study's."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder with -o")
    if (folder / FILE).is_file():
        if (other := read_study(folder / FILE).dataset) != study.dataset:
            raise ValueError(
                f"{folder} holds a study on data set {other}, not {study.dataset}: name another folder with -o"
            )
        return
    others = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
    if others:
        some = ", ".join(others[:3] + ["..."] * (len(others) > 3))
        raise ValueError(f"{folder} holds no study, but {some}, which might be lost: name a new folder")


def _refuse_other_conversion(study: Study, raw: Path) -> None:
    """Refuse a data set that was converted with another split or other organs than the study's own command has."""
    record, content = (read_if_whole(raw / name) or {} for name in (CONVERSION_FILE, "dataset.json"))
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)  # of what decides about folds and labels
    parser.add_argument("--split")
    parser.add_argument("--json-list")
    parser.add_argument("--organs", nargs="+")
    for command in study.data:
        data_set = DATA_SETS.get(command[1]) if command[0] == "convert" and len(command) > 1 else None
        if data_set is None or "split" not in record:
            continue
        options, _ = parser.parse_known_args(command[2:])
        if data_set.with_organs and options.organs:
            data_set = data_set.with_organs(options.organs)
        there = [name for name in content.get("labels", ()) if name != "background"]
        split = record["split"] if options.json_list else options.split or data_set.splits[0].name
        differs = [f"--split {record['split']}"] if record["split"] != split else []
        differs += [f"the organs {', '.join(there)}"] if set(there) != set(data_set.labels.values()) else []
        if differs:
            raise ValueError(
                f"{raw} was converted with {' and '.join(differs)}, while the study says {' '.join(command)}: remove "
                "that data set, or give the study another number (dataset = N, and --dataset-id N in data)"
            )


def _refuse_closed(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ValueError(f"{folder} cannot be written: {there} is {'closed to you' if there.is_dir() else 'a file'}")


def _refuse_other_folders(folders: Mapping[str, str], folder: Path) -> None:
    """Refuse to continue in other nnU-Net folders than the study was begun with: everything would be trained again."""
    if not (folder / SETTINGS).is_file():
        return
    for name, before in read_settings(folder).folders.items():
        if (now := folders.get(name, before)) != before:
            raise ValueError(
                f"{folder} was begun with {name} = {before}, which now is {now}: set it as before, or name "
                "another folder with -o"
            )


def _refuse_unknown_trainers(study: Study) -> None:
    """Refuse names that nnU-Net's source does not know; with other external trainers any name may exist."""
    external = [path for path in os.environ.get(EXTERNAL_TRAINERS, "").split(os.pathsep) if path]
    if any(Path(path) != trainer_folder() for path in external):
        return
    others = [model.trainer for model in study.models if not is_parsed(model.trainer)]
    known = stock_trainers() if others else set()
    for trainer in others:
        if trainer not in known:
            near = get_close_matches(trainer, [*known, BASE_NAME], 1)
            hint = f"; do you mean {near[0]}?" if near else ""
            raise ValueError(f"there is no trainer {trainer}, neither nnU-Net's nor ours{hint}")


def forget_what_is_lost(study: Study, folder: Path) -> None:
    """Remove the marks of steps that a changed study, or a removed training, makes necessary again."""
    data = dataset_if_there(study.dataset)
    if (folder / FILE).is_file():
        _forget_other_plans(study, read_study(folder / FILE), folder, data)
    if data is not None:
        _forget_lost_trainings(study, folder, data.results)


def _forget_other_plans(study: Study, before: Study, folder: Path, data: DatasetFolders | None) -> None:
    """Plan and preprocess again where a study has changed in what these steps do."""
    for name, how in before.plans.items():
        path = data.preprocessed / f"{name}.json" if data else None
        if path and path.exists() and study.plans.get(name, how) != how:
            raise ValueError(f"[plans.{name}] has changed, and {path} is there: give the new plans another name")
    wanted, done = (
        ({(model.plans, model.configuration) for model in one.models}, one.plans, one.configurations)
        for one in (study, before)
    )
    if wanted != done:
        for name in ("plan", "preprocess"):
            (folder / "done" / name).unlink(missing_ok=True)


def _forget_lost_trainings(study: Study, folder: Path, results: Path) -> None:
    """Train again what has been removed from nnU-Net's results since, and choose again."""
    for model in study.models:
        for fold in study.folds:
            trained = results / model.identifier / f"fold_{fold}"
            mark = folder / "done" / "train" / model.identifier / f"fold_{fold}"
            complete = all((trained / name).is_file() for name in (FINAL_CHECKPOINT, "validation/summary.json"))
            if mark.exists() and not complete:  # the mark would keep the training, and all made of it, from being made
                mark.unlink()
                for later in ("candidates.json", "done/best", "done/test", "done/report"):
                    (folder / later).unlink(missing_ok=True)
