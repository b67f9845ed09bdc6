"""TotalSegmentator (Wasserthal et al., Radiology: Artificial Intelligence 2023): CT of all body parts, all 13 organs.

Data: https://zenodo.org/records/10047292 (version 2.0.1, 1228 cases; also a small edition of 102) and
https://zenodo.org/records/6802614 (version 1). Layout: ``s0000/ct.nii.gz``, ``s0000/segmentations/<class>.nii.gz``,
one file of 0 and 1 for each class, and ``meta.csv`` (semicolons, UTF-8 with a byte order mark) with the columns
``image_id`` and ``split``; of the CT 1082 are ``train``, 57 ``val``, 89 ``test`` (wasserth/TotalSegmentator issue
511). Class names: ``class_map["total"]`` of TotalSegmentator, the same in both versions for the 13 organs. Of version
1 the file ``s0864/ct.nii.gz`` is damaged and must be left out, says its author (issue 92): ``--skip-bad-cases``.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from unetr_nnunet.dataset_conversion.cases import SourceCase
from unetr_nnunet.dataset_conversion.data_set import DataSet
from unetr_nnunet.dataset_conversion.label_layers import LabelLayer
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_cases import Part, SourceCases, missing_cases, no_case
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import CV5, OWN
from unetr_nnunet.organs import BACKGROUND, ORGANS

TABLE = "meta.csv"
_PARTS: dict[str, Part] = {"train": "training", "val": "validation", "test": "test"}
_FILE_NAME = re.compile(r"(?:.*/)?(s\d{4})/(?:(ct)|segmentations/(\w+))\.nii(?:\.gz)?")
WANTED = "Totalsegmentator_dataset_v201.zip, or the folder with meta.csv and s0000, s0001, ..."
_COMPLETE = "complete the download, or extract it again"


def find(source: Path, files: Sequence[SourceFile]) -> SourceCases:
    """Find the cases, and read from ``meta.csv`` which part each belongs to.

    Raises:
        ValueError: there is no case of TotalSegmentator, or no usable ``meta.csv``.
    """
    by_case: dict[str, dict[str, list[SourceFile]]] = {}
    for file in files:
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            by_case.setdefault(match.group(1), {}).setdefault(match.group(2) or match.group(3), []).append(file)
    if not by_case:
        raise no_case(source, files, "TotalSegmentator", WANTED)
    table, part_of = _read_table(source, files)
    parts: dict[Part, dict[str, SourceCase]] = {part: {} for part in _PARTS.values()}
    problems = list(missing_cases(list(part_of), by_case, table.name))
    for name, by_kind in sorted(by_case.items()):
        problem = _case_problem(name, by_kind, part_of)
        if problem:
            problems.append(problem)
        else:
            parts[part_of[name]][name] = _case(by_kind)
    return SourceCases(parts, frozenset(by_case), case_problems=tuple(problems))


def _read_table(source: Path, files: Sequence[SourceFile]) -> tuple[SourceFile, dict[str, Part]]:
    """Return ``meta.csv`` and the part that each case belongs to."""
    tables = [file for file in files if PurePosixPath(file.name).name == TABLE]
    if not tables:
        raise ValueError(f"{source} holds no {TABLE}, which says what trains and what is for testing: give {WANTED}")
    table = min(tables, key=lambda file: file.name.count("/"))
    text = table.read_text()
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    part_of = {}
    for row in rows:
        name, part = (row.get("image_id") or "").strip(), (row.get("split") or "").strip()
        if not re.fullmatch(r"s\d{4}", name) or part not in _PARTS:
            raise ValueError(
                f"{table.name}: a row has image_id {name!r} and split {part!r} instead of a case such as s0000 and "
                f"one of {', '.join(_PARTS)}: download or extract it again"
            )
        part_of[name] = _PARTS[part]
    if not part_of:
        raise ValueError(f"{table.name} lists no case: download or extract it again")
    return table, part_of


def _case_problem(
    name: str, by_kind: Mapping[str, Sequence[SourceFile]], part_of: Mapping[str, Part]
) -> Problem | None:
    """Return what is wrong with the files of a case; only those of the 13 organs count."""
    wanted = ["ct", *(organ.totalsegmentator_name for organ in ORGANS)]
    missing = [f"{'' if kind == 'ct' else 'segmentations/'}{kind}.nii.gz" for kind in wanted if kind not in by_kind]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return Problem(name, f"has no {', '.join(missing[:3])}{more}", _COMPLETE)
    if name not in part_of:
        return Problem(
            name, f"is not in {TABLE}", f"move the folder out of the source, or use the {TABLE} it belongs to"
        )
    for kind in wanted:
        files = by_kind[kind]
        if len(files) > 1:
            return Problem(files[1].name, f"is there twice, also as {files[0].name}", "give one copy of the data set")
        if not files[0].name.lower().endswith(".gz"):
            return Problem(files[0].name, "is not compressed", "compress it with gzip")
    return None


def _case(by_kind: Mapping[str, Sequence[SourceFile]]) -> SourceCase:
    layers = (
        LabelLayer(by_kind[organ.totalsegmentator_name][0], {BACKGROUND: BACKGROUND, 1: organ.id}) for organ in ORGANS
    )
    return SourceCase(by_kind["ct"][0], tuple(layers))


DATA_SET = DataSet(
    command="totalsegmentator",
    title="TotalSegmentator",
    description="CT of all body parts at 1.5 mm from routine care; the 13 organs of BTCV out of its classes",
    reference="https://zenodo.org/records/10047292; doi 10.1148/ryai.230024",
    licence="as stated on Zenodo for the version at hand (2.0.1: CC BY 4.0)",
    find=find,
    splits=(OWN, CV5),
    dataset_id=54,
    name="TotalSegmentator",
    summary="TotalSegmentator, CT: all 13 organs",
    wanted="Totalsegmentator_dataset_v201.zip or the extracted folder with meta.csv",
    example="Totalsegmentator_dataset_v201.zip",
    details="The files of the 13 organs are merged into one label map; where two claim a voxel, the organ with the "
    "higher number wins. Split own: train, val and test of meta.csv.",
    table_files=(TABLE,),
)
