"""Turn a download into nnU-Net's raw format. Every file is checked before anything is written.

example:
  export nnUNet_raw=~/nnUNet_raw
  unetr_nnunet convert btcv RawData.zip
  unetr_nnunet convert btcv RawData --split transunet-18-12 --dataset-id 18 --name BTCV_18_12
  unetr_nnunet convert amos amos22.zip
  unetr_nnunet convert openkbp open-kbp     # a clone of github.com/ababier/open-kbp; no registration
"""

import argparse
import os
import textwrap
from collections import Counter
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from unetr_nnunet.trainers.names import BASE_NAME

if TYPE_CHECKING:
    from unetr_nnunet.dataset_conversion.conversion import Conversion, ConversionReport
    from unetr_nnunet.dataset_conversion.data_set import DataSet

MAX_CASE_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command of each data set."""
    from unetr_nnunet.dataset_conversion.sources import DATA_SETS

    kinds = parser.add_subparsers(dest="data_set", required=True, metavar="DATASET")
    for data_set in DATA_SETS.values():
        _add_data_set(kinds, data_set)


def _add_data_set(kinds: Any, data_set: "DataSet") -> None:
    kind = kinds.add_parser(
        data_set.command,
        help=data_set.summary,
        description=_description(data_set),
        epilog=f"example:\n  unetr_nnunet convert {data_set.command} {data_set.example} --dry-run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kind.add_argument("source", type=Path, metavar="SOURCE", help=data_set.wanted)
    names = [split.name for split in data_set.splits]
    split = kind.add_mutually_exclusive_group()
    split.add_argument("--split", choices=names, help=f"see above (default: {names[0]})")
    if data_set.case_id:
        split.add_argument("--json-list", type=Path, metavar="FILE", help="a MONAI data list, such as dataset_0.json")
    if data_set.organ_choice:
        kind.add_argument(
            "--organs",
            nargs="+",
            metavar="ORGAN",
            help=f"convert the patients in whom all of these are contoured; some of {', '.join(data_set.organ_choice)} "
            f"(default: {' '.join(data_set.labels.values())})",
        )
    if not data_set.every_case_counts:
        kind.add_argument(
            "--skip-bad-cases",
            action="store_true",
            help="leave out cases that are missing or fail a check, and list them, instead of converting nothing",
        )
    kind.add_argument("--output", type=Path, metavar="DIR", help="nnU-Net's raw folder (default: $nnUNet_raw)")
    number, name = data_set.dataset_id, data_set.name
    kind.add_argument(
        "--dataset-id", type=int, default=number, metavar="N", help=f"data set number (default: {number})"
    )
    kind.add_argument("--name", default=name, help=f"data set name (default: {name})")
    kind.add_argument(
        "--link",
        choices=("auto", "hard", "copy"),
        default="auto",
        help="hard-link unchanged files (they then share their bytes with the source) or copy them; "
        "auto links from a folder on the same file system (default)",
    )
    kind.add_argument("--workers", type=int, metavar="N", help="threads (default: one per core, at most 8)")
    kind.add_argument("--dry-run", action="store_true", help="check everything, list what would be done, write nothing")
    kind.add_argument("--overwrite", action="store_true", help="replace an existing data set once all checks passed")
    kind.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")


def _description(data_set: "DataSet") -> str:
    lines = [f"{data_set.summary} -> nnUNet_raw/Dataset{data_set.dataset_id:03d}_{data_set.name}", ""]
    lines += [*textwrap.wrap(data_set.details, 100), ""] if data_set.details else []
    lines.append("splits:")
    for split in data_set.splits:
        lines += textwrap.wrap(f"  {split.name:<17}{split.summary}", 100, subsequent_indent=" " * 19)
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Convert, print the report and the commands that come next."""
    from unetr_nnunet.dataset_conversion.conversion import Conversion, convert
    from unetr_nnunet.dataset_conversion.sources import DATA_SETS
    from unetr_nnunet.dataset_conversion.splits import read_monai_list

    data_set = DATA_SETS[arguments.data_set]
    if data_set.with_organs and arguments.organs:
        data_set = data_set.with_organs(arguments.organs)
    splits = {split.name: split for split in data_set.splits}
    if data_set.case_id and arguments.json_list:
        split = read_monai_list(arguments.json_list, data_set.case_id)
    else:
        split = splits[arguments.split] if arguments.split else data_set.splits[0]
    conversion = Conversion(
        arguments.source,
        _raw_root(arguments.output),
        data_set,
        split,
        dataset_id=arguments.dataset_id,
        name=arguments.name,
        link=arguments.link,
        workers=min(8, os.cpu_count() or 1) if arguments.workers is None else arguments.workers,
        dry_run=arguments.dry_run,
        overwrite=arguments.overwrite,
        skip_bad_cases=not data_set.every_case_counts and arguments.skip_bad_cases,
    )
    report = convert(conversion)
    print("\n".join(_report_lines(report, conversion)))
    if not conversion.dry_run:
        print("\n".join(["", "next:", *(f"  {line}" for line in _next_commands(report, conversion))]))
    return 0


def _raw_root(output: Path | None) -> Path:
    if output is not None:
        return output
    if not os.environ.get("nnUNet_raw"):
        raise ValueError("no folder to write to: set nnUNet_raw (export nnUNet_raw=~/nnUNet_raw) or give --output DIR")
    return Path(os.environ["nnUNet_raw"])


def _report_lines(report: "ConversionReport", conversion: "Conversion") -> list[str]:
    how = "hard-linked" if report.linked else "copied"
    lines = [
        f"{'would write' if conversion.dry_run else 'wrote'} {report.folder}"
        + (" (continued an unfinished conversion)" if report.continued else ""),
        f"  split {report.split_name}: {len(report.training)} training cases, {len(report.test)} test cases "
        f"({report.test_label_count} with labels)"
        + (
            f", {report.fold_count} fixed fold{'s' if report.fold_count > 1 else ''} in splits_final.json"
            if report.fold_count
            else ""
        ),
        f"  unchanged files {how}, at most {report.bytes_written / 2**20:.1f} MiB to write",
    ]
    if report.undrawn_organs:
        names = ", ".join(report.undrawn_organs)
        lines.append(f"  not annotated here, so a model trained on it will not predict them: {names}")
    if report.left_out:
        lines.append(f"  left out, not used by this split: {', '.join(report.left_out)}")
    lines += [f"  {note}" for note in report.notes[:MAX_CASE_LINES]]
    if len(report.notes) > MAX_CASE_LINES:
        lines.append(f"  and {len(report.notes) - MAX_CASE_LINES} more of this kind, see conversion.json")
    lines += [f"  skipped: {problem}" for problem in report.skipped]
    if len(report.rewritten) <= MAX_CASE_LINES:
        lines += [f"  {case}: label rewritten: {'; '.join(reasons)}" for case, reasons in report.rewritten.items()]
    else:
        lines.append(f"  {len(report.rewritten)} labels rewritten: conversion.json says why")
    if len(report.absent_organs) <= MAX_CASE_LINES:
        return lines + [f"  {case}: no {', '.join(organs)}" for case, organs in report.absent_organs.items()]
    counts = Counter(organ for organs in report.absent_organs.values() for organ in organs)
    return lines + [f"  no {organ} in {count} cases (see conversion.json)" for organ, count in counts.most_common()]


def _next_commands(report: "ConversionReport", conversion: "Conversion") -> list[str]:
    number, images = conversion.dataset_id, report.folder / "imagesTs"
    if report.fold_count:
        folds = [str(fold) for fold in range(report.fold_count)]
    else:
        held_out = conversion.split.test is not None  # a published protocol, which trains on all other cases
        folds = ["all"] if held_out or len(report.training) < 5 else ["0", "1", "2", "3", "4"]
    trainer = "_".join((BASE_NAME, *conversion.data_set.trainer_tokens))
    lines = []
    if (
        os.environ.get("nnUNet_raw") is None
        or Path(os.environ["nnUNet_raw"]).resolve() != conversion.raw_root.resolve()
    ):
        lines.append(f"export nnUNet_raw={quote(str(conversion.raw_root.resolve()))}")
    preprocessed = os.environ.get("nnUNet_preprocessed")
    if preprocessed and (old := Path(preprocessed) / report.folder.name).exists():
        lines.append(f"rm -r {quote(str(old))}   # left from an earlier conversion; its splits would stay in force")
    lines += [
        'eval "$(unetr_nnunet env)"',
        f"nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity -c 3d_fullres",
        *(f"nnUNetv2_train {number} 3d_fullres {fold} -tr {trainer} --npz" for fold in folds),
    ]
    if report.test:
        model = f"-d {number} -c 3d_fullres -tr {trainer} -f {' '.join(folds)}"
        lines.append(f"nnUNetv2_predict {model} -i {quote(str(images))} -o predictions")
    if report.test_label_count:
        lines.append(f"unetr_nnunet evaluate predictions {quote(str(report.folder / 'labelsTs'))}")
    return lines
