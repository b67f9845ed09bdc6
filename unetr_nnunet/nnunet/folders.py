"""Find nnU-Net v2's folders and say what they are: data sets, models, folds, cross-validations, ensembles.

Names as in nnU-Net v2 ``utilities/file_path_utilities.py`` and ``evaluation/find_best_configuration.py``.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unetr_nnunet.nnunet.splits import FILE_NAME as SPLITS_FILE
from unetr_nnunet.nnunet.splits import read_splits

DEFAULT_PLANS = ("nnUNetPlans", "3d_fullres")
FINAL_CHECKPOINT = "checkpoint_final.pth"
"""Of a training that has ended."""
ALL = "all"
"""The fold that trains on every case, and so is validated on its own training cases."""


def enclosing_model(folder: Path) -> Path | None:
    """Return the ``TRAINER__PLANS__CONFIGURATION`` folder that ``folder`` is or lies in; None if missing."""
    for path in (folder, *folder.parents):
        if path.name.count("__") == 2 and not path.name.startswith("ensemble___"):
            return path
    return None


def model_name(folder: Path) -> str:
    """Return a name for readers: the trainer's, plans and configuration only where they are not nnU-Net's default.

    What lies inside a model's folder is named after the model, with the part that is meant: ``fold_0``,
    ``postprocessed``. Folders that are not nnU-Net's keep their name.
    """
    if folder.name.startswith("ensemble___"):
        _, *members, _ = folder.name.split("___")
        return "ensemble of " + " and ".join(_short(member) for member in members)
    model = enclosing_model(folder)
    if model is None:
        return folder.name
    inside = [part for part in folder.relative_to(model).parts if part != "validation"]
    return " ".join([_short(model.name), *(part for part in inside if not part.startswith("crossval_results_"))])


def _short(identifier: str) -> str:
    trainer, *plans = identifier.split("__")
    return " ".join([trainer, *(part for part in plans if part not in DEFAULT_PLANS)])


def seed_of(folder: Path) -> int | None:
    """Return the seed in the trainer's name, None if it has none."""
    name = (enclosing_model(folder) or folder).name
    match = re.match(r"nnUNetTrainer.*?_seed(\d+)(?=_|$)", name.split("__")[0])
    return int(match.group(1)) if match else None


def fold_folders(model: Path) -> dict[str, Path]:
    """Return the folders of a model's folds by fold, in order; "all" last."""
    folders = [path for path in model.glob("fold_*") if path.is_dir()]
    by_fold = {path.name.removeprefix("fold_"): path for path in folders}
    return {fold: by_fold[fold] for fold in sorted(by_fold, key=lambda fold: (fold == ALL, len(fold), fold))}


def validation_folders(folder: Path) -> dict[str, Path]:
    """Return the validation folders of a model's folder, or that of one fold, by fold."""
    if folder.name == "validation":
        folder = folder.parent
    folds = {folder.name.removeprefix("fold_"): folder} if folder.name.startswith("fold_") else fold_folders(folder)
    return {fold: path / "validation" for fold, path in folds.items() if (path / "validation").is_dir()}


def dataset_folder(folder: Path) -> Path | None:
    """Return the ``DatasetNNN_NAME`` folder that ``folder`` lies in; None if missing."""
    return next((path for path in (folder, *folder.parents) if re.fullmatch(r"Dataset\d{3}_.+", path.name)), None)


def label_folders(folder: Path) -> list[Path]:
    """Return where the true labels of a data set's training cases are, best first.

    Beside the folder of results first: variables may name the data of another study.
    """
    places = [*_places(folder, "nnUNet_preprocessed", "gt_segmentations"), *_places(folder, "nnUNet_raw", "labelsTr")]
    return [place for place in places if place.is_dir()]


def validation_cases(folder: Path) -> dict[str, list[str]]:
    """Return the cases that each fold is validated on, from ``splits_final.json``; empty if missing.

    Raises:
        ValueError: the file is there but holds no splits.
    """
    for path in _places(folder, "nnUNet_preprocessed", SPLITS_FILE):
        if path.is_file():
            return {str(fold): list(split.val) for fold, split in enumerate(read_splits(path))}
    return {}


def _places(folder: Path, root: str, name: str) -> Iterator[Path]:
    dataset = dataset_folder(folder.resolve())
    if dataset is None:
        return
    yield dataset.parent.parent / root / dataset.name / name
    if os.environ.get(root):
        yield Path(os.environ[root]) / dataset.name / name


class DatasetFolders(NamedTuple):
    """Where a data set lies in nnU-Net's three folders; the raw one is there, the others may not be yet."""

    raw: Path
    preprocessed: Path
    results: Path

    @property
    def name(self) -> str:
        """Full name of the data set, such as ``Dataset017_BTCV``."""
        return self.raw.name


def find_dataset(number: int) -> DatasetFolders:
    """Return the folders of the data set with this number, which has a ``dataset.json`` in ``nnUNet_raw``.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: there are several.
    """
    raw = Path(os.environ["nnUNet_raw"])
    folders = [folder for folder in _numbered(raw, number) if (folder / "dataset.json").is_file()]
    if not folders:
        raise FileNotFoundError(f"{raw} (nnUNet_raw) has no data set {number}: convert it (`unetr_nnunet convert`)")
    if len(folders) > 1:
        names = " and ".join(folder.name for folder in folders)
        raise ValueError(f"number {number} is used by {names} in {raw}: rename one of them")
    others = (Path(os.environ[name]) / folders[0].name for name in ("nnUNet_preprocessed", "nnUNet_results"))
    return DatasetFolders(folders[0], *others)


def dataset_if_there(number: int) -> DatasetFolders | None:
    """Return the folders of the data set with this number, None if it is missing or nnU-Net's folders are not set.

    Raises:
        ValueError: there are several.
    """
    with contextlib.suppress(FileNotFoundError, KeyError):
        return find_dataset(number)
    return None


def find_model_folder(
    dataset: int | str, configuration: str, trainer: str = "nnUNetTrainer", plans: str = "nnUNetPlans"
) -> Path:
    """Return a model folder in ``nnUNet_results``, found as nnUNetv2_predict finds it.

    Args:
        dataset: number or full name of the data set, such as 17 or ``Dataset017_BTCV``.
        configuration: such as ``3d_fullres``.
        trainer: class name of the trainer.
        plans: identifier of the plans.

    Raises:
        FileNotFoundError: if there is no such data set or model; the message names those there are.
        ValueError: if ``nnUNet_results`` is not set, the data set is not a number or name, or two have its number.
    """
    results = os.environ.get("nnUNet_results")
    if not results:
        raise ValueError("nnUNet_results is not set: export it, or name the model folder itself with -m")
    folder = _results_of(Path(results), str(dataset))
    model = folder / f"{trainer}__{plans}__{configuration}"
    if not (model / "plans.json").is_file():
        there = ", ".join(sorted(path.parent.name for path in folder.glob("*__*__*/plans.json")))
        raise FileNotFoundError(f"{folder} has no model {model.name}; it has {there or 'none'}")
    return model


def _results_of(results: Path, dataset: str) -> Path:
    if dataset.isdecimal():
        folders = _numbered(results, int(dataset))
    elif dataset.startswith("Dataset"):
        folders = [path for path in results.glob("Dataset*") if path.name == dataset]
    else:
        raise ValueError(
            f"{dataset!r} is not a data set of nnU-Net: give its number or its name, such as Dataset017_BTCV"
        )
    if not folders:
        there = ", ".join(sorted(path.name for path in results.glob("Dataset*")))
        raise FileNotFoundError(f"{results} (nnUNet_results) has no data set {dataset}; it has {there or 'none'}")
    if len(folders) > 1:
        names = " and ".join(path.name for path in folders)
        raise ValueError(f"number {dataset} is used by {names} in {results}: give the name")
    return folders[0]


def _numbered(root: Path, number: int) -> list[Path]:
    return sorted(path for path in root.glob(f"Dataset{number:03d}_*") if path.is_dir())
