"""FLARE22 (Ma et al., Lancet Digital Health 2024, arXiv 2308.05862): 50 labelled abdominal CT with 12 of the 13 organs.

Data: https://flare22.grand-challenge.org/Dataset/. Layout and label numbers from there, as
https://github.com/openmedlab/Awesome-Medical-Dataset (resources, FLARE 2022) lists them:
``FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz`` with ``labels/FLARE22_Tr_0001.nii.gz`` (in ``Training``, or
``FLARE22Train.zip``); 50 cases for tuning, ``FLARETs_0001_0000.nii.gz``, whose labels came out later; 2000 unlabelled
``Case_00001_0000.nii.gz``; and ``Testing``, 200 unlabelled ``FLARETs_`` whose numbers start again at 0001. The tuning
cases are the test set here; unlabelled training cases and ``Testing`` are not used.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from unetr_nnunet.dataset_conversion.data_set import DataSet
from unetr_nnunet.dataset_conversion.label_layers import absent_organs, organ_values
from unetr_nnunet.dataset_conversion.source_cases import (
    Place,
    SourceCases,
    folder_names,
    missing_cases,
    no_case,
    pair_files,
)
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import CV5, OWN

LABELS = (
    "liver",
    "right kidney",
    "spleen",
    "pancreas",
    "aorta",
    "inferior vena cava",
    "right adrenal gland",
    "left adrenal gland",
    "gallbladder",
    "esophagus",
    "stomach",
    "duodenum",
    "left kidney",
)
"""Names of the labels 1 to 13."""
VALUES = organ_values(LABELS)
LABELLED_CASES = tuple(f"FLARE22_Tr_{number:04d}" for number in range(1, 51))

_CASE_NAME = re.compile(r"((FLARE22_Tr|FLARETs)_\d{4})(_0000)?\.nii(\.gz)?")
_UNLABELLED_NAME = re.compile(r"Case_\d{5}_0000\.nii\.gz")
WANTED = "FLARE22Train.zip, or the folder FLARE22_LabeledCase50 with images and labels (or the folder above it)"


def find(source: Path, files: Sequence[SourceFile]) -> SourceCases:
    """Find the labelled cases and the tuning cases.

    Raises:
        ValueError: there is no case of FLARE22.
    """
    cases = pair_files(files, partial(_place, source), VALUES, label_expected={"training"})
    if not cases.identifiers:
        raise no_case(source, files, "FLARE22", WANTED)
    missing = missing_cases(LABELLED_CASES, cases.identifiers, "FLARE22_LabeledCase50")
    unlabelled = sum(_UNLABELLED_NAME.fullmatch(PurePosixPath(file.name).name) is not None for file in files)
    notes = (f"{unlabelled} unlabelled cases (Case_*.nii.gz) are not used",) if unlabelled else ()
    return replace(cases, case_problems=(*missing, *cases.case_problems), notes=notes)


def _place(source: Path, path: PurePosixPath) -> Place | None:
    match = _CASE_NAME.fullmatch(path.name)
    folders = folder_names(source, path)
    if match is None or "testing" in folders:
        return None
    is_label = folders[-1].startswith("label") or match.group(3) is None
    return Place("training" if match.group(2) == "FLARE22_Tr" else "test", is_label, match.group(1))


DATA_SET = DataSet(
    command="flare",
    title="FLARE22",
    description="The 50 labelled abdominal CT of the FLARE 2022 challenge; 12 of the 13 organs of BTCV",
    reference="https://flare22.grand-challenge.org; arXiv 2308.05862",
    licence="terms of the FLARE 2022 challenge",
    find=find,
    splits=(OWN, CV5),
    dataset_id=52,
    name="FLARE22",
    summary="FLARE22, labelled cases: 12 of the 13 organs (no portal and splenic veins)",
    wanted="FLARE22Train.zip, FLARE22_LabeledCase50, or the folder above it",
    example="FLARE22Train.zip",
    details="The 50 labelled cases train; they are not divided further, so own and cv5 are the same: nnU-Net's five "
    "folds. The tuning cases (FLARETs_*) are held out, with their labels if they exist. Unlabelled cases are "
    "not used.",
    undrawn=absent_organs(VALUES.values()),
)
