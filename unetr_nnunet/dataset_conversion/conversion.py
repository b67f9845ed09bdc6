"""Convert a download to nnU-Net's raw format. Every file is checked before anything is written.

What differs between the data sets, layout, labels and splits, is data: see ``DataSet`` and ``sources``.
"""

import re
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.contrib.concurrent import thread_map

from unetr_nnunet import __version__
from unetr_nnunet.dataset_conversion import raw_dataset
from unetr_nnunet.dataset_conversion.cases import CheckedCase, Selection, check_case
from unetr_nnunet.dataset_conversion.data_set import DataSet
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError
from unetr_nnunet.dataset_conversion.raw_dataset import LabelRewrite, LinkMode, PlannedFile
from unetr_nnunet.dataset_conversion.source_files import SourceFile, open_source
from unetr_nnunet.dataset_conversion.splits import Split
from unetr_nnunet.organs import BACKGROUND

FILE_ENDING = ".nii.gz"


@dataclass(frozen=True)
class Conversion:
    """The settings of a conversion.

    Attributes:
        source: the downloaded zip or the folder it was extracted to.
        raw_root: the ``nnUNet_raw`` folder.
        data_set: what the source is.
        split: which cases train and which are held out.
        dataset_id: 1..999.
        name: the part after ``DatasetXXX_``.
        link: "auto" hard-links where it can, "hard" insists on it, "copy" never does.
        workers: threads that check and write.
        dry_run: check and report, write nothing.
        overwrite: replace an existing data set folder, after all checks have passed.
        skip_bad_cases: leave out the cases that are missing or fail a check, instead of converting nothing.
    """

    source: Path
    raw_root: Path
    data_set: DataSet
    split: Split
    _: KW_ONLY
    dataset_id: int
    name: str
    link: LinkMode = "auto"
    workers: int = 2
    dry_run: bool = False
    overwrite: bool = False
    skip_bad_cases: bool = False

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
    """The outcome of a conversion, or of a dry run.

    Attributes:
        folder: the data set's folder.
        split_name: how the split is called.
        training: case identifiers in ``imagesTr``.
        test: case identifiers in ``imagesTs``.
        test_label_count: how many of the test cases have a label in ``labelsTs``.
        left_out: identifiers of the source's cases that the split does not use.
        undrawn_organs: names of the organs that the data set does not have.
        absent_organs: further organ names that do not occur, by case identifier; complete cases are not listed.
        rewritten: why a label was rewritten that could have been copied otherwise, by case identifier.
        fold_count: fixed folds in ``splits_final.json``; 0 where nnU-Net draws its own.
        skipped: problems of the cases that were left out because of them.
        notes: what else the user should know.
        linked: whether unchanged files are hard links.
        bytes_written: size of what had to be written.
        continued: an unfinished conversion was completed.
    """

    folder: Path
    split_name: str
    training: list[str]
    test: list[str]
    test_label_count: int
    left_out: list[str]
    fold_count: int
    undrawn_organs: list[str] = field(default_factory=list)
    absent_organs: dict[str, list[str]] = field(default_factory=dict)
    rewritten: dict[str, list[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    linked: bool = False
    bytes_written: int = 0
    continued: bool = False


def convert(conversion: Conversion) -> ConversionReport:
    """Check the whole source, then write the data set.

    Raises:
        ProblemsFoundError: every problem of the source at once; nothing was written.
        ValueError: the source is another data set, or an argument does not fit it.
        OSError: the target exists, the disk is full, or a file cannot be read or written.
    """
    folder, data_set = conversion.folder, conversion.data_set
    _refuse_overlap(conversion.source, folder)
    raw_dataset.check_dataset_id(conversion.raw_root, folder.name)
    with open_source(conversion.source, data_set.table_files) as files:
        outside = _outside(files, conversion.source, folder)
        selection = conversion.split.select(data_set.find(conversion.source, outside))
        settings = {"folder": folder.name, "splits": list(selection.folds)}
        identity = raw_dataset.plan_identity(settings, _plan_files(selection, {}))
        continued = raw_dataset.check_target(folder, identity, conversion.overwrite)
        checked = _check_cases(selection, conversion)
        skipped = [*selection.case_problems, *(problem for result in checked.values() for problem in result.problems)]
        selection = selection.without([name for name, result in checked.items() if result.problems])
        if not selection.training:
            raise ValueError(
                f"{conversion.source} holds no labelled training case that can be used: training needs one"
            )
        planned = _plan_files(selection, checked)
        link = raw_dataset.can_link(planned, conversion.raw_root, conversion.link)
        todo_bytes = raw_dataset.bytes_to_write(planned, folder if continued else None, link)
        raw_dataset.check_free_space(conversion.raw_root, todo_bytes)
        report = _report(folder, selection, data_set, checked)
        report.skipped = [str(problem) for problem in skipped]
        report.linked, report.bytes_written, report.continued = link, todo_bytes, continued
        if not conversion.dry_run:
            raw_dataset.write_dataset(
                folder,
                planned,
                dataset=_dataset_json(data_set, len(selection.training)),
                conversion=_conversion_json(conversion, identity, report),
                splits=list(selection.folds),
                link=link,
                workers=conversion.workers,
                keep_existing=continued,
            )
    return report


def _refuse_overlap(source: Path, folder: Path) -> None:
    inner, outer = source.resolve(), folder.resolve()
    if inner == outer or outer in inner.parents:
        raise ValueError(f"the source {source} lies in the data set folder {folder}: move it, or choose --output")


def _outside(files: list[SourceFile], source: Path, folder: Path) -> list[SourceFile]:
    """Return the files that are not of the data set being written, where the output lies in the source."""
    target = folder.resolve()
    if source.resolve() not in target.parents:
        return files
    return [file for file in files if file.path is None or target not in file.path.resolve().parents]


def _check_cases(selection: Selection, conversion: Conversion) -> dict[str, CheckedCase]:
    """Check every case, and raise all problems together, unless bad cases are to be left out."""
    cases, data_set = selection.cases(), conversion.data_set
    check = partial(check_case, drawn=data_set.drawn)
    bar = {"desc": "checking", "unit": "case", "disable": None}
    results = list(thread_map(check, cases.values(), max_workers=conversion.workers, **bar))
    odd_count = sum(bool(result.range_problems) for result in results)
    if data_set.every_case_counts or 2 * odd_count > len(results):
        results = [_refused_by_range(result) for result in results]
    of_cases = [problem for result in results for problem in result.problems]
    problems = [*selection.problems, *selection.case_problems, *of_cases]
    if selection.problems or (problems and not conversion.skip_bad_cases):
        optional = not (selection.problems or data_set.every_case_counts)
        raise ProblemsFoundError(problems, "--skip-bad-cases converts the other cases" if optional else "")
    return dict(zip(cases, results, strict=True))


def _refused_by_range(result: CheckedCase) -> CheckedCase:
    problems = result.problems + result.range_problems
    return CheckedCase(problems) if problems else result


def _plan_files(selection: Selection, checked: dict[str, CheckedCase]) -> list[PlannedFile]:
    """List the files to write; without ``checked``, as if no label had to be rewritten."""
    planned = []
    for part, cases in (("Tr", selection.training), ("Ts", selection.test)):
        for identifier, case in cases.items():
            planned.append(PlannedFile(f"images{part}/{identifier}_0000{FILE_ENDING}", (case.image,)))
            if not case.labels:
                continue
            result, rewrite = checked.get(identifier), None
            kept = len(case.labels) == 1 and case.labels[0].is_kept
            if result is not None and result.image is not None and (result.rewrite_reasons or not kept):
                rewrite = LabelRewrite(case.labels, result.image)
            sources = tuple(layer.file for layer in case.labels)
            planned.append(PlannedFile(f"labels{part}/{identifier}{FILE_ENDING}", sources, rewrite))
    return planned


def _report(folder: Path, selection: Selection, data_set: DataSet, checked: dict[str, CheckedCase]) -> ConversionReport:
    used = {name: checked[name] for name in selection.cases()}
    odd = [f"{problem.file}: {problem.fact}" for result in used.values() for problem in result.range_problems]
    mended = [note for result in used.values() for note in result.notes]
    return ConversionReport(
        folder=folder,
        split_name=selection.split_name,
        training=list(selection.training),
        test=list(selection.test),
        test_label_count=sum(bool(case.labels) for case in selection.test.values()),
        left_out=list(selection.left_out),
        fold_count=len(selection.folds),
        undrawn_organs=[data_set.labels[organ] for organ in data_set.undrawn],
        absent_organs={name: list(result.absent) for name, result in used.items() if result.absent},
        rewritten={name: list(result.rewrite_reasons) for name, result in used.items() if result.rewrite_reasons},
        notes=[*selection.notes, *odd, *mended],
    )


def _dataset_json(data_set: DataSet, training_count: int) -> dict[str, Any]:
    """Return nnU-Net's ``dataset.json``.

    The channel name must be CT: it chooses the normalisation. Of the abdomen ``labels`` holds all 13 organs, because
    nnU-Net wants consecutive numbers and models of several data sets are to be compared; ``absent_labels``, which
    nnU-Net passes over, names those that are not annotated.
    """
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": BACKGROUND} | {name: organ for organ, name in data_set.labels.items()},
        "numTraining": training_count,
        "file_ending": FILE_ENDING,
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
        "name": data_set.title,
        "description": data_set.description,
        "reference": data_set.reference,
        "licence": data_set.licence,
        "converted_by": f"unetr_nnunet {__version__} convert {data_set.command}",
    }
    if data_set.undrawn:
        content["absent_labels"] = [data_set.labels[organ] for organ in data_set.undrawn]
    return content


def _conversion_json(conversion: Conversion, identity: str, report: ConversionReport) -> dict[str, Any]:
    """Return the record of the conversion that stays beside ``dataset.json``."""
    return {
        "identity": identity,
        "source": conversion.source.resolve().name,
        "split": report.split_name,
        "test_cases": report.test,
        "left_out": report.left_out,
        "undrawn_organs": report.undrawn_organs,
        "absent_organs": report.absent_organs,
        "rewritten_labels": report.rewritten,
        "skipped": report.skipped,
        "notes": report.notes,
    }
