"""WORD (Luo et al., Medical Image Analysis 2022, arXiv 2111.02403): CT before radiotherapy, 8 of the 13 organs.

Data: https://github.com/HiLab-git/WORD (on request; the archive has a password; the test labels come as a second one,
``WORD_V0.1.0_labelsTs.zip``). Layout, from https://github.com/openmedlab/Awesome-Medical-Dataset (resources/WORD.md):
``imagesTr``, ``labelsTr`` (100), ``imagesVal``, ``labelsVal`` (20), ``imagesTs``, ``labelsTs`` (30), with
``word_0002.nii.gz`` in each. Label numbers from the ``dataset.json`` of WORD-V0.1.0. It draws both adrenal glands as
one label, so that they are no organ of the 13 here, and become background.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from unetr_nnunet.dataset_conversion.data_set import DataSet
from unetr_nnunet.dataset_conversion.label_layers import absent_organs, organ_values
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_cases import (
    Part,
    Place,
    SourceCases,
    folder_names,
    label_table_problems,
    no_case,
    pair_files,
    read_dataset_json,
    split_folders,
)
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import CV5, OWN

LABELS = (
    "liver",
    "spleen",
    "left_kidney",
    "right_kidney",
    "stomach",
    "gallbladder",
    "esophagus",
    "pancreas",
    "duodenum",
    "colon",
    "intestine",
    "adrenal",
    "rectum",
    "bladder",
    "Head_of_femur_L",
    "Head_of_femur_R",
)
"""Names of the labels 1 to 16."""
VALUES = organ_values(LABELS)

_FOLDERS = split_folders(validation="val")
_PARTS: dict[Part, tuple[str, int]] = {
    "training": ("imagesTr", 100),
    "validation": ("imagesVal", 20),
    "test": ("imagesTs", 30),
}
_CASE_NAME = re.compile(r"(word_\d{4})\.nii(\.gz)?", re.IGNORECASE)
WANTED = "the folder WORD-V0.1.0 with imagesTr, labelsTr, imagesVal, labelsVal, imagesTs"


def find(source: Path, files: Sequence[SourceFile]) -> SourceCases:
    """Find the cases.

    Raises:
        ValueError: there is no case of WORD, or ``dataset.json`` is damaged.
    """
    cases = pair_files(files, partial(_place, source), VALUES, label_expected=("training", "validation"))
    if not cases.identifiers:
        raise no_case(source, files, "WORD", WANTED)
    table = read_dataset_json(files)
    return replace(
        cases,
        problems=tuple(label_table_problems(*table, LABELS)) if table else (),
        case_problems=(*_missing(cases), *cases.case_problems),
        notes=("WORD draws both adrenal glands as one label: they are background here",),
    )


def _place(source: Path, path: PurePosixPath) -> Place | None:
    match = _CASE_NAME.fullmatch(path.name)
    folder = folder_names(source, path)[-1]
    if match is None or folder not in _FOLDERS:
        return None
    part, is_label = _FOLDERS[folder]
    return Place(part, is_label, match.group(1).lower())


def _missing(cases: SourceCases) -> list[Problem]:
    """Compare the number of cases with that of the paper; cases with a problem of their own count as there."""
    return [
        Problem(folder, f"holds {cases.counts[part]} of {count} cases", "complete the download")
        for part, (folder, count) in _PARTS.items()
        if cases.counts[part] < count
    ]


DATA_SET = DataSet(
    command="word",
    title="WORD",
    description="Whole abdominal organ data set: CT before radiotherapy; 8 of the 13 organs of BTCV",
    reference="https://github.com/HiLab-git/WORD; arXiv 2111.02403",
    licence="GPL-3.0, academic research only (https://github.com/HiLab-git/WORD)",
    find=find,
    splits=(OWN, CV5),
    dataset_id=53,
    name="WORD",
    summary="WORD: 8 of the 13 organs (no aorta, inferior vena cava, portal and splenic veins, adrenal glands)",
    wanted="the extracted folder WORD-V0.1.0 (the archive has a password)",
    example="WORD-V0.1.0",
    details="WORD draws both adrenal glands as one label, which becomes background. imagesTs is held out, with "
    "labelsTs if it exists.",
    undrawn=absent_organs(VALUES.values()),
    table_files=("dataset.json",),
)
