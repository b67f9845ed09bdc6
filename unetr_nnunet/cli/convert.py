"""Turn a download into nnU-Net's raw format. Every file is checked before anything is written.

example:
  export nnUNet_raw=~/nnUNet_raw
  unetr_nnunet convert btcv RawData.zip
  unetr_nnunet convert btcv RawData --split transunet-18-12 --dataset-id 18 --name BTCV_18_12
"""

import argparse
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unetr_nnunet.dataset_conversion.btcv import BtcvConversion, ConversionReport

SPLIT_NAMES = ("cv5", "unetr-24-6", "transunet-18-12")
TRAINER = "nnUNetTrainerUNETR"

BTCV_HELP = """\
BTCV abdomen (Synapse syn3193805) -> nnUNet_raw/Dataset017_BTCV.

SOURCE is RawData.zip (read in place), the extracted folder, or its Training folder alone.

splits:
  cv5              every labelled case trains; nnU-Net draws its own five folds (default)
  unetr-24-6       one fixed fold: 24 training, 6 validation cases (dataset_0.json of the UNETR repository)
  transunet-18-12  18 cases train, 12 are held out in imagesTs and labelsTs ("Synapse" protocol); the 20 unlabelled
                   test cases are left out; within the 18, fold `all` is the protocol's, or nnU-Net's own folds
"""


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
    btcv.add_argument("source", type=Path, metavar="SOURCE", help="RawData.zip, the extracted folder, or Training")
    btcv.add_argument("--output", type=Path, metavar="DIR", help="nnU-Net's raw folder (default: $nnUNet_raw)")
    btcv.add_argument("--dataset-id", type=int, default=17, metavar="N", help="data set number (default: 17)")
    btcv.add_argument("--name", default="BTCV", help="data set name (default: BTCV)")
    split = btcv.add_mutually_exclusive_group()
    split.add_argument("--split", choices=SPLIT_NAMES, help="see above (default: cv5)")
    split.add_argument("--json-list", type=Path, metavar="FILE", help="a MONAI data list, such as dataset_0.json")
    btcv.add_argument(
        "--link",
        choices=("auto", "hard", "copy"),
        default="auto",
        help="hard-link unchanged files (they then share their bytes with the source) or copy them; "
        "auto links from a folder on the same file system (default)",
    )
    btcv.add_argument("--workers", type=int, metavar="N", help="threads (default: the cores there are, at most 8)")
    btcv.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, write nothing")
    btcv.add_argument("--overwrite", action="store_true", help="replace an existing data set once all checks passed")
    btcv.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> int:
    """Convert, print the report and the commands that come next."""
    from unetr_nnunet.dataset_conversion.btcv import BtcvConversion, convert
    from unetr_nnunet.dataset_conversion.btcv_splits import SPLITS
    from unetr_nnunet.dataset_conversion.splits import read_monai_list

    conversion = BtcvConversion(
        source=arguments.source,
        raw_root=_raw_root(arguments.output),
        split=read_monai_list(arguments.json_list) if arguments.json_list else SPLITS[arguments.split or "cv5"],
        dataset_id=arguments.dataset_id,
        name=arguments.name,
        link=arguments.link,
        workers=min(8, os.cpu_count() or 1) if arguments.workers is None else arguments.workers,
        dry_run=arguments.dry_run,
        overwrite=arguments.overwrite,
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
        raise ValueError("where to write? set nnUNet_raw (export nnUNet_raw=~/nnUNet_raw) or give --output DIR")
    return Path(os.environ["nnUNet_raw"])


def _report_lines(report: "ConversionReport", conversion: "BtcvConversion") -> list[str]:
    how = "hard-linked" if report.linked else "copied"
    lines = [
        f"{'would write' if conversion.dry_run else 'wrote'} {report.folder}"
        + (" (continued an unfinished conversion)" if report.continued else ""),
        f"  split {conversion.split.name}: {len(report.training)} training cases, {len(report.test)} test cases "
        f"({report.test_label_count} with labels)"
        + (f", {report.fold_count} fixed fold in splits_final.json" if report.fold_count else ""),
        f"  unchanged files {how}, {report.bytes_written / 2**20:.1f} MiB to write",
    ]
    if report.left_out:
        lines.append(f"  left out, not used by this split: {', '.join(report.left_out)}")
    lines += [f"  {case}: label rewritten: {'; '.join(reasons)}" for case, reasons in report.rewritten.items()]
    lines += [f"  {case}: no {', '.join(organs)}" for case, organs in report.absent_organs.items()]
    return lines


def _next_commands(report: "ConversionReport", conversion: "BtcvConversion") -> list[str]:
    number, images = conversion.dataset_id, report.folder / "imagesTs"
    if report.fold_count:
        folds = [str(fold) for fold in range(report.fold_count)]
    else:
        folds = ["all"] if conversion.split.test is not None or len(report.training) < 5 else ["0", "1", "2", "3", "4"]
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
