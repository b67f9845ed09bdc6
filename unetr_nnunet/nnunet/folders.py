"""What nnU-Net v2 calls its folders: models, folds, cross-validations, ensembles, and where their labels lie.

Names as in nnU-Net v2 ``utilities/file_path_utilities.py`` and ``evaluation/find_best_configuration.py``.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

DEFAULT_PLANS = ("nnUNetPlans", "3d_fullres")
ALL = "all"
"""The fold that trains on every case, and so is validated on its own training cases."""


def model_folder(folder: Path) -> Path | None:
    """Return the ``TRAINER__PLANS__CONFIGURATION`` folder that ``folder`` is or lies in; None where there is none."""
    for each in (folder, *folder.parents):
        if each.name.count("__") == 2 and not each.name.startswith("ensemble___"):
            return each
    return None


def model_name(folder: Path) -> str:
    """Return a name for readers: the trainer's, plans and configuration only where they are not nnU-Net's default.

    What lies inside a model's folder is named after the model, with the part that is meant: ``fold_0``,
    ``postprocessed``. Folders that are none of nnU-Net's keep their name.
    """
    if folder.name.startswith("ensemble___"):
        _, *members, _ = folder.name.split("___")
        return "ensemble of " + " and ".join(_short(member) for member in members)
    model = model_folder(folder)
    if model is None:
        return folder.name
    inside = [part for part in folder.relative_to(model).parts if part != "validation"]
    return " ".join([_short(model.name), *(part for part in inside if not part.startswith("crossval_results_"))])


def _short(identifier: str) -> str:
    trainer, *plans = identifier.split("__")
    return " ".join([trainer, *(part for part in plans if part not in DEFAULT_PLANS)])


def seed_of(folder: Path) -> int | None:
    """Return the seed in the trainer's name; None where it tells none."""
    name = (model_folder(folder) or folder).name
    match = re.match(r"nnUNetTrainer.*?_seed(\d+)(?=_|$)", name.split("__")[0])
    return int(match.group(1)) if match else None


def fold_folders(model: Path) -> dict[str, Path]:
    """Return the folders of a model's folds by fold, in order; "all" last."""
    folders = [path for path in model.glob("fold_*") if path.is_dir()]
    by_fold = {path.name.removeprefix("fold_"): path for path in folders}
    return {fold: by_fold[fold] for fold in sorted(by_fold, key=lambda each: (each == ALL, len(each), each))}


def validation_folders(folder: Path) -> dict[str, Path]:
    """Return the validation folders of a model's folder, or that of one fold, by fold."""
    if folder.name == "validation":
        folder = folder.parent
    folds = {folder.name.removeprefix("fold_"): folder} if folder.name.startswith("fold_") else fold_folders(folder)
    return {fold: path / "validation" for fold, path in folds.items() if (path / "validation").is_dir()}


def dataset_folder(folder: Path) -> Path | None:
    """Return the ``DatasetNNN_NAME`` folder that ``folder`` lies in; None where there is none."""
    return next((each for each in (folder, *folder.parents) if re.fullmatch(r"Dataset\d{3}_.+", each.name)), None)


def label_folders(folder: Path) -> list[Path]:
    """Return where the true labels of a data set's training cases are, best first.

    Beside the folder of results first: variables may name the data of another study.
    """
    places = [*_places(folder, "nnUNet_preprocessed", "gt_segmentations"), *_places(folder, "nnUNet_raw", "labelsTr")]
    return [place for place in places if place.is_dir()]


def validation_cases(folder: Path) -> dict[str, list[str]]:
    """Return the cases that each fold is validated on, from ``splits_final.json``; empty where there is none.

    Raises:
        ValueError: the file is there but holds no splits.
    """
    for path in _places(folder, "nnUNet_preprocessed", "splits_final.json"):
        if path.is_file():
            try:
                splits = json.loads(path.read_text(encoding="utf-8"))
                return {str(fold): [str(case) for case in split["val"]] for fold, split in enumerate(splits)}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} holds no splits of nnU-Net: {error!r}") from error
    return {}


def _places(folder: Path, root: str, name: str) -> Iterator[Path]:
    dataset = dataset_folder(folder.resolve())
    if dataset is None:
        return
    yield dataset.parent.parent / root / dataset.name / name
    if os.environ.get(root):
        yield Path(os.environ[root]) / dataset.name / name
