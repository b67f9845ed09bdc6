"""BTCV ("Multi-Atlas Labeling Beyond the Cranial Vault", abdomen) from its download to nnU-Net's raw format.

Data: https://www.synapse.org/Synapse:syn3193805 (registration needed).
Every file is checked before anything is written.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.contrib.concurrent import thread_map

from unetr_nnunet import __version__
from unetr_nnunet.dataset_conversion import image_checks, raw_dataset
from unetr_nnunet.dataset_conversion.btcv_source import SourceCase, find_cases
from unetr_nnunet.dataset_conversion.image_checks import Volume
from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError
from unetr_nnunet.dataset_conversion.raw_dataset import LinkMode, PlannedFile
from unetr_nnunet.dataset_conversion.source_files import SourceFile, open_source
from unetr_nnunet.dataset_conversion.splits import SourceSplit, case_id
from unetr_nnunet.nifti_stream import DamagedFileError
from unetr_nnunet.organs import BACKGROUND, ORGAN_NAMES

CASE_PREFIX = "BTCV"
DEFAULT_DATASET_ID = 17
DEFAULT_NAME = "BTCV"
FILE_ENDING = ".nii.gz"


@dataclass(frozen=True)
class BtcvConversion:
    """What to convert, and how.

    Attributes:
        source: ``RawData.zip``, the extracted folder, ``RawData/RawData``, or ``Training``.
        raw_root: the ``nnUNet_raw`` folder.
        split: which cases train and which are held out.
        dataset_id: 1..999.
        name: the part after ``DatasetXXX_``.
        link: "auto" hard-links where it can, "hard" insists on it, "copy" never does.
        workers: threads that check and write.
        dry_run: check and report, write nothing.
        overwrite: replace an existing data set folder, after all checks have passed.
    """

    source: Path
    raw_root: Path
    split: SourceSplit
    dataset_id: int = DEFAULT_DATASET_ID
    name: str = DEFAULT_NAME
    link: LinkMode = "auto"
    workers: int = 2
    dry_run: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without looking at the source."""
        if not 1 <= self.dataset_id <= 999:
            raise ValueError(f"--dataset-id {self.dataset_id}: nnU-Net's data set numbers go from 1 to 999")
        if not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*", self.name):
            raise ValueError(
                f"--name {self.name!r}: use letters, digits and single _ or - (nnU-Net splits names at __)"
            )
        if self.workers < 1:
            raise ValueError(f"--workers {self.workers}: at least 1 is needed")

    @property
    def folder(self) -> Path:
        """The data set's folder."""
        return self.raw_root / f"Dataset{self.dataset_id:03d}_{self.name}"


@dataclass
class ConversionReport:
    """What was (or would be) done.

    Attributes:
        folder: the data set's folder.
        training: case identifiers in ``imagesTr``.
        test: case identifiers in ``imagesTs``.
        test_label_count: how many of the test cases have a label in ``labelsTs``.
        left_out: identifiers of the source's cases that the split does not use.
        absent_organs: organ names that do not occur, by case identifier; cases with all organs are not listed.
        rewritten: why a label was rewritten, by case identifier.
        fold_count: fixed folds in ``splits_final.json``; 0 where nnU-Net draws its own.
        linked: whether unchanged files are hard links.
        bytes_written: size of what had to be written.
        continued: an unfinished conversion was completed.
    """

    folder: Path
    training: list[str]
    test: list[str]
    test_label_count: int
    left_out: list[str]
    fold_count: int
    absent_organs: dict[str, list[str]] = field(default_factory=dict)
    rewritten: dict[str, list[str]] = field(default_factory=dict)
    linked: bool = False
    bytes_written: int = 0
    continued: bool = False


@dataclass(frozen=True)
class _Checked:
    """Result of checking one case; ``image`` is None where a problem was found."""

    problems: tuple[Problem, ...]
    image: Volume | None = None
    rewrite_reasons: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Selection:
    """The cases that the split takes from the source, by case identifier."""

    training: dict[str, SourceCase]
    test: dict[str, SourceCase]
    left_out: tuple[str, ...]
    problems: tuple[Problem, ...]

    def cases(self) -> dict[str, SourceCase]:
        return self.training | self.test


def convert(conversion: BtcvConversion) -> ConversionReport:
    """Check the whole source, then write the data set.

    Raises:
        ProblemsFoundError: every problem of the source at once; nothing was written.
        ValueError: the source is not BTCV, or an argument does not fit it.
        OSError: the target exists, the disk is full, or a file cannot be read or written.
    """
    folder = conversion.folder
    _refuse_overlap(conversion.source, folder)
    raw_dataset.check_dataset_id(conversion.raw_root, folder.name)
    with open_source(conversion.source) as files:
        selection = _select(conversion, files)
        splits = conversion.split.splits_final(CASE_PREFIX)
        identity = raw_dataset.plan_identity({"folder": folder.name, "splits": splits}, _plan_files(selection, {}))
        continued = raw_dataset.check_target(folder, identity, conversion.overwrite)
        checked = _check_cases(selection, conversion.workers)
        planned = _plan_files(selection, checked)
        link = raw_dataset.can_link(planned, conversion.raw_root, conversion.link)
        todo_bytes = raw_dataset.bytes_to_write(planned, folder if continued else None, link)
        raw_dataset.check_free_space(conversion.raw_root, todo_bytes)
        report = _report(conversion, selection, checked, linked=link, bytes_written=todo_bytes, continued=continued)
        if not conversion.dry_run:
            raw_dataset.write_dataset(
                folder,
                planned,
                dataset=_dataset_json(len(selection.training)),
                conversion=_conversion_json(conversion, identity, report),
                splits=splits,
                link=link,
                workers=conversion.workers,
                keep_existing=continued,
            )
    return report


def _refuse_overlap(source: Path, folder: Path) -> None:
    inner, outer = source.resolve(), folder.resolve()
    if inner == outer or outer in inner.parents:
        raise ValueError(f"the source {source} lies in the data set folder {folder}: move it, or choose --output")


def _select(conversion: BtcvConversion, files: list[SourceFile]) -> _Selection:
    labelled, unlabelled, problems = find_cases(conversion.source, files)
    reported = {int(digits) for problem in problems for digits in re.findall(r"\d{4}", Path(problem.file).name)}
    problems += conversion.split.problems(labelled.keys() | reported, unlabelled)
    available = labelled | unlabelled
    training, test = (
        {case_id(CASE_PREFIX, number): available[number] for number in numbers if number in available}
        for numbers in (conversion.split.chosen_training(labelled), conversion.split.chosen_test(unlabelled))
    )
    identifiers = (case_id(CASE_PREFIX, number) for number in sorted(available))
    left_out = tuple(name for name in identifiers if name not in training and name not in test)
    return _Selection(training, test, left_out, tuple(problems))


def _check_cases(selection: _Selection, workers: int) -> dict[str, _Checked]:
    """Check every case, and raise all problems together."""
    cases = selection.cases()
    results = thread_map(_check_case, cases.values(), max_workers=workers, desc="checking", unit="case", disable=None)
    checked = dict(zip(cases, results, strict=True))
    problems = [*selection.problems, *(problem for result in results for problem in result.problems)]
    if problems:
        raise ProblemsFoundError(problems)
    if not selection.training:
        raise ValueError("the source holds no labelled training case: training needs Training/img and Training/label")
    return checked


def _check_case(case: SourceCase) -> _Checked:
    image, problems = _read(image_checks.read_image, case.image)
    if image is not None:
        problems += image_checks.hounsfield_problems(case.image, image)
    if case.label is None:
        return _Checked(tuple(problems), image)
    label, label_problems = _read(image_checks.read_label, case.label)
    problems += label_problems
    if label is not None:
        problems += image_checks.label_value_problems(case.label, label, highest=max(ORGAN_NAMES))
    if image is not None and label is not None:
        problems += image_checks.pair_problems(case.label, label, image)
    if problems or image is None or label is None:
        return _Checked(tuple(problems))
    absent = tuple(name for organ, name in ORGAN_NAMES.items() if organ not in label.values)
    return _Checked((), image, tuple(image_checks.rewrite_reasons(label, image)), absent)


def _read(reader: Callable[[SourceFile], Volume], file: SourceFile) -> tuple[Volume | None, list[Problem]]:
    """Return the volume, None where the file is damaged or its geometry unusable, and the problems."""
    try:
        volume = reader(file)
    except DamagedFileError as error:
        return None, [Problem(file.name, str(error), image_checks.AGAIN)]
    problems = image_checks.geometry_problems(file, volume)
    return (None if problems else volume), problems


def _plan_files(selection: _Selection, checked: dict[str, _Checked]) -> list[PlannedFile]:
    """List the files to write; without ``checked``, as if no label had to be rewritten."""
    planned = []
    for part, cases in (("Tr", selection.training), ("Ts", selection.test)):
        for identifier, case in cases.items():
            planned.append(PlannedFile(f"images{part}/{identifier}_0000{FILE_ENDING}", case.image))
            if case.label is not None:
                result = checked.get(identifier)
                rewrite_onto = result.image if result is not None and result.rewrite_reasons else None
                planned.append(PlannedFile(f"labels{part}/{identifier}{FILE_ENDING}", case.label, rewrite_onto))
    return planned


def _report(
    conversion: BtcvConversion, selection: _Selection, checked: dict[str, _Checked], **outcome: Any
) -> ConversionReport:
    return ConversionReport(
        folder=conversion.folder,
        training=list(selection.training),
        test=list(selection.test),
        test_label_count=sum(case.label is not None for case in selection.test.values()),
        left_out=list(selection.left_out),
        fold_count=len(conversion.split.folds),
        absent_organs={name: list(result.absent) for name, result in checked.items() if result.absent},
        rewritten={name: list(result.rewrite_reasons) for name, result in checked.items() if result.rewrite_reasons},
        **outcome,
    )


def _dataset_json(training_count: int) -> dict[str, Any]:
    """Return nnU-Net's ``dataset.json``. The channel name must be CT: it chooses the normalisation."""
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": BACKGROUND} | {name: organ for organ, name in ORGAN_NAMES.items()},
        "numTraining": training_count,
        "file_ending": FILE_ENDING,
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
        "name": "BTCV abdomen",
        "description": "Multi-Atlas Labeling Beyond the Cranial Vault: portal venous abdominal CT, 13 organs",
        "reference": "https://www.synapse.org/Synapse:syn3193805",
        "licence": "terms of Synapse syn3193805 (registration needed; not to be passed on)",
        "converted_by": f"unetr_nnunet {__version__} convert btcv",
    }


def _conversion_json(conversion: BtcvConversion, identity: str, report: ConversionReport) -> dict[str, Any]:
    """Return the record of the conversion that stays beside ``dataset.json``."""
    return {
        "identity": identity,
        "source": conversion.source.resolve().name,
        "split": conversion.split.name,
        "test_cases": report.test,
        "left_out": report.left_out,
        "absent_organs": report.absent_organs,
        "rewritten_labels": report.rewritten,
    }
