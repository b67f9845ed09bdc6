"""AMOS22 (Ji et al., NeurIPS 2022 Datasets and Benchmarks, arXiv 2206.08023): its CT scans with 12 of the 13 organs.

Data: https://zenodo.org/records/7262581 (``amos22.zip``, CC BY 4.0). Layout, from the readme.md of the download:
``imagesTr``, ``labelsTr`` (200 CT, 40 MR), ``imagesVa``, ``labelsVa`` (100 CT, 20 MR), ``imagesTs`` (120 scans whose
labels are kept back), with ``amos_xxxx.nii.gz`` in each; ids up to 500 are CT, above MR. ``dataset.json`` lists the
cases of each part and the labels below, in this spelling. nnU-Net's own converter (Dataset218_Amos2022_task1.py) tells
CT from MR by the ids too, and joins training and validation cases, as ``--split cv5`` does.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from unetr_nnunet.dataset_conversion.data_set import DataSet
from unetr_nnunet.dataset_conversion.label_layers import absent_organs, organ_values
from unetr_nnunet.dataset_conversion.source_cases import (
    Place,
    SourceCases,
    folder_names,
    label_table_problems,
    missing_cases,
    no_case,
    pair_files,
    read_dataset_json,
    split_folders,
)
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import CV5, OWN

LABELS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "arota",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
)
"""Names of the labels 1 to 15 (``arota`` is the aorta, ``postcava`` the inferior vena cava)."""
VALUES = organ_values(LABELS)
HIGHEST_CT = 500
"""Cases with numbers above this are MR."""

_FOLDERS = split_folders(validation="va")
_CASE_NAME = re.compile(r"(amos_(\d{4}))\.nii(\.gz)?", re.IGNORECASE)
WANTED = "amos22.zip, or the folder with imagesTr, labelsTr, imagesVa, labelsVa and imagesTs"


def find(source: Path, files: Sequence[SourceFile]) -> SourceCases:
    """Find the CT cases.

    Raises:
        ValueError: there is no CT case of AMOS22, or ``dataset.json`` is damaged.
    """
    cases = pair_files(files, partial(_place, source), VALUES, label_expected=("training", "validation"))
    if not cases.identifiers:
        raise no_case(source, files, "AMOS22 CT", WANTED)
    notes = []
    others = _others(files)
    if others:
        notes.append(f"{len(others)} cases with ids above {HIGHEST_CT} left out: they are MR ({_listed(others)})")
    table = read_dataset_json(files)
    if table is None:
        notes.append("no dataset.json in the source: whether cases are missing could not be checked")
        return replace(cases, notes=tuple(notes))
    file, content = table
    return replace(
        cases,
        problems=tuple(label_table_problems(file, content, LABELS)),
        case_problems=(*missing_cases(_expected(content), cases.identifiers, file.name), *cases.case_problems),
        notes=tuple(notes),
    )


def _place(source: Path, path: PurePosixPath) -> Place | None:
    match = _CASE_NAME.fullmatch(path.name)
    folder = folder_names(source, path)[-1]
    if match is None or folder not in _FOLDERS or int(match.group(2)) > HIGHEST_CT:
        return None
    part, is_label = _FOLDERS[folder]
    return Place(part, is_label, match.group(1).lower())


def _others(files: Sequence[SourceFile]) -> list[str]:
    """Return the identifiers of the cases that are not CT."""
    matches = (_CASE_NAME.fullmatch(PurePosixPath(file.name).name) for file in files)
    return sorted({match.group(1) for match in matches if match and int(match.group(2)) > HIGHEST_CT})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]}"


def _expected(content: Mapping[str, Any]) -> list[str]:
    """Return the identifiers of the CT cases that ``dataset.json`` lists; an entry is a path, or a pair of them."""
    entries = [entry for key in ("training", "validation", "test") for entry in content.get(key) or []]
    paths = (entry.get("image", "") if isinstance(entry, dict) else entry for entry in entries)
    matches = (_CASE_NAME.fullmatch(PurePosixPath(str(path)).name) for path in paths)
    return sorted({match.group(1).lower() for match in matches if match and int(match.group(2)) <= HIGHEST_CT})


DATA_SET = DataSet(
    command="amos",
    title="AMOS22 (CT)",
    description="Multi-centre abdominal CT of patients with tumours and other disease; 12 of the 13 organs of BTCV",
    reference="https://zenodo.org/records/7262581; arXiv 2206.08023",
    licence="CC BY 4.0",
    find=find,
    splits=(OWN, CV5),
    dataset_id=51,
    name="AMOS22",
    summary="AMOS22, CT: 12 of the 13 organs (no portal and splenic veins)",
    wanted="amos22.zip or the extracted folder",
    example="amos22.zip",
    details="MR cases (ids above 500) are left out. imagesTs is held out; its labels are not public.",
    undrawn=absent_organs(VALUES.values()),
    table_files=("dataset.json",),
)
