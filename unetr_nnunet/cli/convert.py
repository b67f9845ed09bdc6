"""Turn a download into nnU-Net's raw format. Every file is checked before anything is written.

example:
  export nnUNet_raw=~/nnUNet_raw
  unetr_nnunet convert btcv RawData.zip
  unetr_nnunet convert btcv RawData --split transunet-18-12 --dataset-id 18 --name BTCV_18_12
  unetr_nnunet convert amos amos22.zip
"""

import argparse
import os
from collections import Counter
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from unetr_nnunet.dataset_conversion.conversion import Conversion, ConversionReport

SPLIT_NAMES = ("cv5", "unetr-24-6", "transunet-18-12")
TRAINER = "nnUNetTrainerUNETR"
MAX_CASE_LINES = 20

BTCV_HELP = """\
BTCV abdomen (Synapse syn3193805) -> nnUNet_raw/Dataset017_BTCV.

SOURCE is RawData.zip (read in place), the extracted folder, or its Training folder alone.

splits:
  cv5              every labelled case trains; nnU-Net draws its own five folds (default)
  unetr-24-6       one fixed fold: 24 training, 6 validation cases (dataset_0.json of the UNETR repository)
  transunet-18-12  18 cases train, 12 are held out in imagesTs and labelsTs ("Synapse" protocol); the 20 unlabelled
                   test cases are left out; within the 18, fold `all` is the protocol's, or nnU-Net's own folds
"""


class Target(NamedTuple):
    """Where a data set besides BTCV goes, and what its help says."""

    dataset_id: int
    name: str
    summary: str
    example: str
    source: str
    text: str


TARGETS = {
    "amos": Target(
        51,
        "AMOS22",
        "AMOS22, CT: 12 of the 13 organs (no portal and splenic veins)",
        "amos22.zip",
        "amos22.zip or the extracted folder",
        "MR cases (ids above 500) are left out. split own: imagesTr trains, imagesVa validates. imagesTs is held out; "
        "its labels are not public.",
    ),
    "flare": Target(
        52,
        "FLARE22",
        "FLARE22, labelled cases: 12 of the 13 organs (no portal and splenic veins)",
        "FLARE22Train.zip",
        "FLARE22Train.zip, FLARE22_LabeledCase50, or the folder above it",
        "The 50 labelled cases train, in nnU-Net's five folds (own and cv5 are the same). The tuning cases (FLARETs_*) "
        "are held out, with their labels where they are there. Unlabelled cases are not used.",
    ),
    "word": Target(
        53,
        "WORD",
        "WORD: 8 of the 13 organs (no aorta, inferior vena cava, portal and splenic veins, adrenal glands)",
        "WORD-V0.1.0",
        "the extracted folder WORD-V0.1.0 (the archive has a password)",
        "WORD draws both adrenal glands as one label, which becomes background. split own: imagesTr trains, imagesVal "
        "validates. imagesTs is held out, with labelsTs where it is there.",
    ),
    "totalsegmentator": Target(
        54,
        "TotalSegmentator",
        "TotalSegmentator, CT: all 13 organs",
        "Totalsegmentator_dataset_v201.zip",
        "Totalsegmentator_dataset_v201.zip or the extracted folder with meta.csv",
        "The files of the 13 organs are merged into one label map; where two claim a voxel, the organ with the higher "
        "number has it. split own: train, val and test of meta.csv.",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command of each data set."""
    kinds = parser.add_subparsers(dest="data_set", required=True, metavar="DATASET")
    btcv = kinds.add_parser(
        "btcv",
        help="BTCV abdomen, 13 organs",
        description=BTCV_HELP,
        epilog="example:\n  unetr_nnunet convert btcv RawData.zip --dry-run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    split = btcv.add_mutually_exclusive_group()
    split.add_argument("--split", choices=SPLIT_NAMES, help="see above (default: cv5)")
    split.add_argument("--json-list", type=Path, metavar="FILE", help="a MONAI data list, such as dataset_0.json")
    _add_common(btcv, "RawData.zip, the extracted folder, or Training", 17, "BTCV")
    for command, target in TARGETS.items():
        _add_other(kinds, command, target)


def _add_other(kinds: Any, command: str, target: Target) -> None:
    other = kinds.add_parser(
        command,
        help=target.summary,
        description=f"{target.summary} -> nnUNet_raw/Dataset{target.dataset_id:03d}_{target.name}. Labels become the "
        f"13 organs of BTCV, other structures background. {target.text}",
        epilog=f"example: unetr_nnunet convert {command} {target.example} --dry-run",
    )
    other.add_argument(
        "--split",
        choices=("own", "cv5"),
        default="own",
        help="own: the data set's own, its validation cases are the one fixed fold (default); "
        "cv5: nnU-Net draws five folds over training and validation cases",
    )
    other.add_argument(
        "--skip-bad-cases",
        action="store_true",
        help="leave out cases that are missing or fail a check, a line each, instead of converting nothing",
    )
    _add_common(other, target.source, target.dataset_id, target.name)


def _add_common(kind: argparse.ArgumentParser, source: str, dataset_id: int, name: str) -> None:
    kind.add_argument("source", type=Path, metavar="SOURCE", help=source)
    kind.add_argument("--output", type=Path, metavar="DIR", help="nnU-Net's raw folder (default: $nnUNet_raw)")
    kind.add_argument(
        "--dataset-id", type=int, default=dataset_id, metavar="N", help=f"data set number (default: {dataset_id})"
    )
    kind.add_argument("--name", default=name, help=f"data set name (default: {name})")
    kind.add_argument(
        "--link",
        choices=("auto", "hard", "copy"),
        default="auto",
        help="hard-link unchanged files (they then share their bytes with the source) or copy them; "
        "auto links from a folder on the same file system (default)",
    )
    kind.add_argument("--workers", type=int, metavar="N", help="threads (default: the cores there are, at most 8)")
    kind.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, write nothing")
    kind.add_argument("--overwrite", action="store_true", help="replace an existing data set once all checks passed")
    kind.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> int:
    """Convert, print the report and the commands that come next."""
    from unetr_nnunet.dataset_conversion import btcv, other_data_sets
    from unetr_nnunet.dataset_conversion.btcv_splits import SPLITS
    from unetr_nnunet.dataset_conversion.conversion import Conversion
    from unetr_nnunet.dataset_conversion.splits import read_monai_list

    common: dict[str, Any] = {
        "source": arguments.source,
        "raw_root": _raw_root(arguments.output),
        "dataset_id": arguments.dataset_id,
        "name": arguments.name,
        "link": arguments.link,
        "workers": min(8, os.cpu_count() or 1) if arguments.workers is None else arguments.workers,
        "dry_run": arguments.dry_run,
        "overwrite": arguments.overwrite,
    }
    conversion: Conversion
    if arguments.data_set == "btcv":
        split = read_monai_list(arguments.json_list) if arguments.json_list else SPLITS[arguments.split or "cv5"]
        conversion = of_btcv = btcv.BtcvConversion(split=split, **common)
        report = btcv.convert(of_btcv)
        no_folds = split.test is not None
    else:
        conversion = Conversion(skip_bad_cases=arguments.skip_bad_cases, **common)
        report = other_data_sets.convert(conversion, arguments.data_set, arguments.split)
        no_folds = False
    print("\n".join(_report_lines(report, conversion)))
    if not conversion.dry_run:
        print("\n".join(["", "next:", *(f"  {line}" for line in _next_commands(report, conversion, no_folds))]))
    return 0


def _raw_root(output: Path | None) -> Path:
    if output is not None:
        return output
    if not os.environ.get("nnUNet_raw"):
        raise ValueError("where to write? set nnUNet_raw (export nnUNet_raw=~/nnUNet_raw) or give --output DIR")
    return Path(os.environ["nnUNet_raw"])


def _report_lines(report: "ConversionReport", conversion: "Conversion") -> list[str]:
    how = "hard-linked" if report.linked else "copied"
    lines = [
        f"{'would write' if conversion.dry_run else 'wrote'} {report.folder}"
        + (" (continued an unfinished conversion)" if report.continued else ""),
        f"  split {report.split_name}: {len(report.training)} training cases, {len(report.test)} test cases "
        f"({report.test_label_count} with labels)"
        + (f", {report.fold_count} fixed fold in splits_final.json" if report.fold_count else ""),
        f"  unchanged files {how}, {report.bytes_written / 2**20:.1f} MiB to write",
    ]
    if report.undrawn_organs:
        names = ", ".join(report.undrawn_organs)
        lines.append(f"  nobody has drawn these here, so a model trained on it will not predict them: {names}")
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


def _next_commands(report: "ConversionReport", conversion: "Conversion", no_folds: bool) -> list[str]:
    number, images = conversion.dataset_id, report.folder / "imagesTs"
    if report.fold_count:
        folds = [str(fold) for fold in range(report.fold_count)]
    else:
        folds = ["all"] if no_folds or len(report.training) < 5 else ["0", "1", "2", "3", "4"]
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
        *(f"nnUNetv2_train {number} 3d_fullres {fold} -tr {TRAINER} --npz" for fold in folds),
    ]
    if report.test:
        model = f"-d {number} -c 3d_fullres -tr {TRAINER} -f {' '.join(folds)}"
        lines.append(f"nnUNetv2_predict {model} -i {quote(str(images))} -o predictions")
    if report.test_label_count:
        lines.append(f"unetr_nnunet evaluate predictions {quote(str(report.folder / 'labelsTs'))}")
    return lines
