"""BTCV ("Multi-Atlas Labeling Beyond the Cranial Vault", abdomen): portal venous CT with all 13 organs.

Data: https://www.synapse.org/Synapse:syn3193805 (registration needed). Layout (folder Abdomen, ``RawData.zip``):
``RawData/Training/img/img0001.nii.gz``, ``RawData/Training/label/label0001.nii.gz``,
``RawData/Testing/img/img0061.nii.gz``; some archives nest RawData twice. ``Testing/label``, which the challenge does
not publish, is used where a user has it.

Published splits. ``unetr-24-6``: ``dataset_0.json`` of Project-MONAI/research-contributions (UNETR/BTCV).
``transunet-18-12``: the lists of TransUNet (arXiv 2102.04306), 12 held-out cases, the usual "Synapse" protocol of eight
organs. Those papers train on all 18 (nnU-Net's fold ``all``); five folds within the 18 are nnU-Net's own.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from unetr_nnunet.dataset_conversion.data_set import DataSet
from unetr_nnunet.dataset_conversion.label_layers import BTCV_VALUES
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_cases import Part, Place, SourceCases, no_case, pair_files
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import Split

WANTED = "RawData.zip of the Abdomen folder (RawData/Training/img, RawData/Training/label, RawData/Testing/img)"
TRAINING_NUMBERS: tuple[int, ...] = (*range(1, 11), *range(21, 41))
TEST_NUMBERS: tuple[int, ...] = tuple(range(61, 81))
_TRANSUNET_TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)

_CASE_NAME = re.compile(r"(img|label)(\d{4})\.nii(\.gz)?", re.IGNORECASE)
_PARTS: dict[str, tuple[Part, tuple[int, ...], str]] = {
    "Training": ("training", TRAINING_NUMBERS, "0001-0010 and 0021-0040"),
    "Testing": ("test", TEST_NUMBERS, "0061-0080"),
}


def find(source: Path, files: Sequence[SourceFile]) -> SourceCases:
    """Find the cases, in any level of the download's folders.

    Raises:
        ValueError: nothing in the source looks like BTCV, or it is one of the downloads beside it.
    """
    _refuse_other_data_sets(source, [file.name for file in files])
    places = [_place(source, PurePosixPath(file.name)) for file in files]
    test_is_labelled = any(isinstance(place, Place) and place.is_label and place.part == "test" for place in places)
    label_expected: tuple[Part, ...] = ("training", "test") if test_is_labelled else ("training",)
    cases = pair_files(files, partial(_place, source), BTCV_VALUES, label_expected)
    if not cases.identifiers and not cases.case_problems:
        raise no_case(source, files, "BTCV", WANTED)
    return cases


def _refuse_other_data_sets(source: Path, names: Iterable[str]) -> None:
    """Refuse a source that is, or contains, another download from the same web page."""
    own_name = PurePosixPath(source.resolve().stem if source.is_file() else source.resolve().name)
    for path in (own_name, *map(PurePosixPath, names)):
        parts = [part.lower() for part in path.parts]
        where = str(source) if path is own_name else f"{source}: {path}"
        if "averaged-training-images" in parts or re.fullmatch(r"det.*_avg\.nii(\.gz)?", parts[-1]):
            raise ValueError(
                f"{where} belongs to the cardiac data (averaged-training-images, DET*_avg), "
                f"which show hearts and no abdominal organs: give {WANTED}"
            )
        if "regdata" in parts:
            raise ValueError(
                f"{where} belongs to RegData, copies of the same patients deformed onto each other, in which training "
                f"cases occur many times over: give {WANTED}"
            )


def _place(source: Path, path: PurePosixPath) -> Place | Problem | None:
    parents = [source.resolve().name, *path.parts[:-1]]
    kind = parents[-1].lower()
    if kind not in ("img", "label") or len(parents) < 2:
        return None
    folder = parents[-2].capitalize()
    if folder not in _PARTS:
        if len(path.parts) != 2:
            return None
        folder = "Training"  # given by itself, under another name
    part, numbers, ranges = _PARTS[folder]
    match = _CASE_NAME.fullmatch(path.name)
    if match is None or match.group(1).lower() != kind:
        fact = f"is not named like the files of {folder}/{kind} ({kind}0001.nii.gz)"
        return Problem(str(path), fact, "remove the file, or give it back its name from the download")
    if int(match.group(2)) not in numbers:
        fact = f"is an extra file: BTCV's {folder} cases are {ranges}"
        return Problem(str(path), fact, "move it out of the source")
    return Place(part, kind == "label", case_id(int(match.group(2))))


def case_id(number: int) -> str:
    """Return the case identifier: ``case_id(1) == "BTCV_0001"``."""
    return f"BTCV_{number:04d}"


def _ids(numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(map(case_id, numbers))


DATA_SET = DataSet(
    command="btcv",
    title="BTCV abdomen",
    description="Multi-Atlas Labeling Beyond the Cranial Vault: portal venous abdominal CT, 13 organs",
    reference="https://www.synapse.org/Synapse:syn3193805",
    licence="terms of Synapse syn3193805 (registration needed; not to be passed on)",
    find=find,
    splits=(
        Split("cv5", "every labelled case trains; nnU-Net draws its own five folds"),
        Split(
            "unetr-24-6",
            "one fixed fold: 24 training, 6 validation cases (dataset_0.json of the UNETR repository)",
            training=_ids(TRAINING_NUMBERS),
            folds=((_ids((*range(1, 11), *range(21, 35))), _ids(range(35, 41))),),
        ),
        Split(
            "transunet-18-12",
            '18 cases train, 12 are held out in imagesTs and labelsTs ("Synapse" protocol); the 20 unlabelled test '
            "cases are left out; train fold `all` as that protocol does, or nnU-Net's own folds within the 18",
            training=_ids(number for number in TRAINING_NUMBERS if number not in _TRANSUNET_TEST),
            test=_ids(_TRANSUNET_TEST),
        ),
    ),
    dataset_id=17,
    name="BTCV",
    summary="BTCV abdomen (Synapse syn3193805): all 13 organs",
    wanted="RawData.zip (read in place), the extracted folder, or its Training folder alone",
    example="RawData.zip",
    every_case_counts=True,
    case_id=case_id,
)
