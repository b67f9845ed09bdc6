"""Check a raw data set of nnU-Net that ``convert`` has not written, before anything is planned or trained.

nnU-Net's own ``--verify_dataset_integrity`` stops at the first kind of problem, and only warns where a label map lies
beside its image; without it the same problems end a fingerprint or a training hours later. Format:
documentation/dataset_format.md of MIC-DKFZ/nnUNet.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError
from unetr_nnunet.dataset_conversion.raw_dataset import CONVERSION_FILE, DATASET_FILE
from unetr_nnunet.dataset_conversion.raw_volumes import RawCase, check_volumes, name_below
from unetr_nnunet.nnunet.folders import dataset_if_there
from unetr_nnunet.nnunet.splits import FILE_NAME as SPLITS_FILE
from unetr_nnunet.nnunet.splits import read_splits

STAMP_FILE = "raw_data_checked.json"
FOLDS = 5
"""That nnU-Net draws where no split is given."""
KEYS = ("channel_names", "labels", "numTraining", "file_ending")
_log = logging.getLogger(__name__)


def check_dataset_to_plan(number: int) -> None:
    """Check a data set as `check_raw_dataset` does, if it is there; a plan does not need as many cases as folds.

    Raises:
        ProblemsFoundError: every problem at once.
    """
    data = dataset_if_there(number)
    if data is not None:
        check_raw_dataset(data.raw, data.preprocessed, five_folds=False)


def check_raw_dataset(folder: Path, preprocessed: Path, *, five_folds: bool = True) -> None:
    """Check the training cases of a raw data set; a data set that ``convert`` has written passes at once.

    Volumes are read to their end, once: what has not changed since an earlier check is not read again. Of other files,
    such as PNG, only the names are checked.

    Args:
        folder: ``.../nnUNet_raw/DatasetXXX_Name``.
        preprocessed: ``.../nnUNet_preprocessed/DatasetXXX_Name``; receives the note that the files were checked.
        five_folds: whether fewer cases than nnU-Net's five folds need are a problem; otherwise they are a warning.

    Raises:
        ProblemsFoundError: every problem at once, each with its file and a remedy.
    """
    table, problems = _read_table(folder)
    if (folder / CONVERSION_FILE).is_file() and "converted_by" in table:
        return
    if not problems:
        cases, problems = _find_cases(folder, table)
        problems += _split_problems(folder, preprocessed, cases)
        too_few = None if problems else _too_few(folder, preprocessed, cases)
        if too_few and five_folds:
            problems.append(too_few)
        elif too_few:
            _log.warning("warning: %s", too_few)
        problems += check_volumes(folder, table, cases, preprocessed / STAMP_FILE)
    if problems:
        raise ProblemsFoundError(problems, consequence=f"in {folder}; nothing was planned or trained")


def _read_table(folder: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Return the content of ``dataset.json`` and what is wrong with it."""
    try:
        content = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a table")
    except (OSError, ValueError) as error:
        return {}, [Problem(DATASET_FILE, f"cannot be read ({error})", "restore it: see nnU-Net's dataset_format.md")]
    labels = content.get("labels")
    if "channel_names" not in content and ("modality" in content or "tensorImageSize" in content):
        return content, [_older_form(folder)]
    missing = [key for key in KEYS if key not in content]
    if missing:
        fact = f"has no {', '.join(missing)}"
        return content, [Problem(DATASET_FILE, fact, "add what is missing: see nnU-Net's dataset_format.md")]
    if not isinstance(labels, dict) or not isinstance(content["channel_names"], dict):
        fact = "labels and channel_names are not tables of names and numbers"
        return content, [Problem(DATASET_FILE, fact, 'write {"background": 0, "liver": 1} and {"0": "CT"}')]
    listed = content.get("dataset")
    if listed is not None and not _is_list_of_cases(listed):
        fact = 'the cases in "dataset" are not tables of images and label'
        return content, [Problem(DATASET_FILE, fact, 'write {"CASE": {"images": [...], "label": ...}}')]
    return content, _label_problems(content)


def _is_list_of_cases(listed: Any) -> bool:
    return isinstance(listed, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("images"), list) and isinstance(entry.get("label"), str)
        for entry in listed.values()
    )


def _older_form(folder: Path) -> Problem:
    has_channels = any(re.search(r"_\d{4}\.nii\.gz$", path.name) for path in folder.glob("imagesTr/*"))
    form, command = (
        ("nnU-Net v1", f"nnUNetv2_convert_old_nnUNet_dataset {folder} DatasetXXX_NAME")
        if has_channels
        else ("the Medical Segmentation Decathlon", f"nnUNetv2_convert_MSD_dataset -i {folder}")
    )
    return Problem(DATASET_FILE, f'has the form of {form} ("modality")', f"convert it: {command}")


def _label_problems(content: Mapping[str, Any]) -> list[Problem]:
    labels = content["labels"]
    values = [value for entry in labels.values() for value in (entry if isinstance(entry, list) else [entry])]
    wrong = [value for value in values if type(value) is not int]
    if wrong:
        remedy = 'write each label as "name": number, such as {"background": 0, "liver": 1}'
        return [Problem(DATASET_FILE, f"the label values {wrong[:3]} are not integers", remedy)]
    there = sorted({0, *values})
    if there != list(range(len(there))):
        fact = f"the label values {there} are not consecutive from 0"
        return [Problem(DATASET_FILE, fact, "renumber the labels, in dataset.json and in the label maps")]
    if any(isinstance(entry, list) for entry in labels.values()) and "regions_class_order" not in content:
        return [
            Problem(DATASET_FILE, "has regions but no regions_class_order", "add it: see nnU-Net's region_based.md")
        ]
    return []


def _find_cases(folder: Path, table: Mapping[str, Any]) -> tuple[dict[str, RawCase], list[Problem]]:
    """Return the training cases by identifier, found as nnU-Net finds them, and what is wrong with their names."""
    if "dataset" in table:
        cases = {
            str(name): RawCase(tuple(_path(folder, image) for image in entry["images"]), _path(folder, entry["label"]))
            for name, entry in table["dataset"].items()
        }
        problems: list[Problem] = []
    else:
        cases, problems = _cases_in_folders(folder, table)
    channels = len(table["channel_names"])
    for name, case in cases.items():
        missing = [path for path in (*case.images, case.label) if not path.is_file()]
        problems += [_problem(folder, path, f"is missing for case {name}", "add it") for path in missing]
        if len(case.images) != channels:
            fact = f"case {name} has {len(case.images)} channels, dataset.json names {channels}"
            where = case.images[0] if case.images else case.label
            problems.append(_problem(folder, where, fact, "add the missing channels, or correct channel_names"))
    if not cases:
        fact = f"holds no image named CASE_0000{table['file_ending']}"
        problems.append(Problem("imagesTr", fact, "put the images there, or correct file_ending in dataset.json"))
    elif not problems and table["numTraining"] != len(cases):
        fact = f"says numTraining {table['numTraining']}, but there are {len(cases)} training cases"
        problems.append(Problem(DATASET_FILE, fact, "complete the data set, or correct the number"))
    return cases, problems


def _cases_in_folders(folder: Path, table: Mapping[str, Any]) -> tuple[dict[str, RawCase], list[Problem]]:
    ending = str(table["file_ending"])
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    images: dict[str, list[Path]] = {}
    problems = []
    for path in _files(folder / "imagesTr", ending):
        match = pattern.fullmatch(path.name)
        if match:
            images.setdefault(match[1], []).append(path)
        else:
            name = path.name.removesuffix(ending)
            remedy = f"rename it to {name}_0000{ending}"
            problems.append(_problem(folder, path, "has no channel number at the end of its name", remedy))
    for path in _files(folder / "labelsTr", ending):
        if path.name.removesuffix(ending) not in images:
            fact = f"has no image {path.name.removesuffix(ending)}_0000{ending} in imagesTr"
            problems.append(_problem(folder, path, fact, "add the image, or remove the label"))
    cases = {name: RawCase(tuple(paths), folder / "labelsTr" / f"{name}{ending}") for name, paths in images.items()}
    return cases, problems


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{ending}") if not path.name.startswith("."))


def _path(folder: Path, name: str) -> Path:
    return folder / os.path.expandvars(name)


def _problem(folder: Path, path: Path, fact: str, remedy: str) -> Problem:
    return Problem(name_below(folder, path), fact, remedy)


def _split_problems(folder: Path, preprocessed: Path, cases: Iterable[str]) -> list[Problem]:
    """Compare the splits, where there are any, with the cases."""
    problems = []
    for path in _splits(folder, preprocessed):
        try:
            named = {case for fold in read_splits(path) for case in (*fold.train, *fold.val)}
        except ValueError as error:
            fact, _, remedy = str(error).removeprefix(f"{path} ").rpartition("; ")
            problems.append(Problem(str(path), fact, remedy))
            continue
        if unknown := sorted(named - set(cases)):
            some = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            remedy = "name cases of imagesTr only, or remove the file: nnU-Net then draws five folds"
            problems.append(Problem(str(path), f"names {len(unknown)} cases that are not there ({some})", remedy))
    return problems


def _splits(folder: Path, preprocessed: Path) -> list[Path]:
    return [path for path in (folder / SPLITS_FILE, preprocessed / SPLITS_FILE) if path.is_file()]


def _too_few(folder: Path, preprocessed: Path, cases: Mapping[str, RawCase]) -> Problem | None:
    if not 0 < len(cases) < FOLDS or _splits(folder, preprocessed):
        return None
    fact = f"holds {len(cases)} training cases, fewer than the {FOLDS} folds that nnU-Net draws"
    return Problem(folder.name, fact, f"add cases, or write a {SPLITS_FILE} with fewer folds into the folder")
