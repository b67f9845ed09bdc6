"""Compare predicted label maps with the true ones, organ by organ: overlap, surface distances, volumes, swaps.

example:
  unetr_nnunet evaluate predictions/ nnUNet_raw/Dataset017_BTCV/labelsTr
  unetr_nnunet evaluate predictions/ nnUNet_raw/Dataset017_BTCV/labelsTr --protocol all

Files (.nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd) are joined by name; BTCV's own names also by their number (BTCV_0061
with label0061).
Organs are those of the dataset.json in PREDICTIONS or beside LABELS, else the 13 of BTCV. Both files of a case must
lie on the same grid, or give --resample. Writes metrics.csv and metrics.json, and summary.json in nnU-Net's layout
where nnU-Net wrote none; prints tables. With --protocol all there is a metrics_PROTOCOL file for each further protocol,
and protocols.md, which holds them side by side. The exit code is 1 where a case has no partner or was refused; the
other cases are scored all the same.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, DEFAULT_TOLERANCE, PROTOCOLS, RULES, TOLERANCES

if TYPE_CHECKING:
    from unetr_nnunet.evaluation.figures import Evaluation

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="folder of predicted label maps")
    parser.add_argument("labels", type=Path, metavar="LABELS", help="folder of true label maps")
    parser.add_argument("-o", "--output", type=Path, help="folder to write to (default: PREDICTIONS)")
    parser.add_argument(
        "--protocol",
        choices=(*PROTOCOLS, ALL),
        default=DEFAULT_PROTOCOL.name,
        help="which organs are scored, on which grid, and what an absent organ scores: nnU-Net's (default), the BTCV "
        "test server's 12 columns, TransUNet's 8 organs, UNETR's own script, or all side by side",
    )
    parser.add_argument(
        "--absent-organs",
        choices=RULES,
        help="replace the protocol's rule for an organ that truth, prediction or both lack: nnU-Net's, or that of "
        "the code behind the tables of UNETR, UNETR++ or TransUNet",
    )
    parser.add_argument(
        "--tolerance",
        choices=TOLERANCES,
        default=DEFAULT_TOLERANCE,
        help="surface distance that counts as no error in NSD: 1 mm (nnunet, default), or FLARE's of each organ",
    )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="bring a prediction on another grid to the label's, by nearest neighbour, instead of refusing it",
    )
    parser.add_argument("--workers", type=int, help="cases scored at once (default: one per processor, at most 8)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write, print."""
    from unetr_nnunet.evaluation.folder import evaluate_protocols
    from unetr_nnunet.evaluation.tables import format_protocols, format_table

    if arguments.protocol == ALL and arguments.absent_organs:
        raise ValueError("--absent-organs changes one protocol's rule; name that protocol instead of all")
    if arguments.output is not None and arguments.output.is_file():
        raise ValueError(f"-o {arguments.output} is a file: give the folder that the files go to")
    every = arguments.protocol == ALL
    protocols = list(PROTOCOLS.values()) if every else [PROTOCOLS[arguments.protocol]]
    if arguments.absent_organs:
        protocols = [protocols[0].with_rule(RULES[arguments.absent_organs])]
    evaluations, impossible = evaluate_protocols(
        arguments.predictions,
        arguments.labels,
        protocols,
        tolerance=arguments.tolerance,
        resample=arguments.resample,
        workers=arguments.workers if arguments.workers is not None else min(os.cpu_count() or 1, 8),
        progress=True,
    )
    output = arguments.output or arguments.predictions
    written = _write(evaluations, output)
    print(format_protocols(evaluations) if every else format_table(evaluations[0]))
    print(f"Written: {', '.join(map(str, written))}")
    for reason in impossible:
        print(f"left out: {reason}", file=sys.stderr)
    return _report_problems(evaluations[0])


def _write(evaluations: "list[Evaluation]", output: Path) -> list[Path]:
    from unetr_nnunet.atomic import atomic_path
    from unetr_nnunet.evaluation.metrics_file import write_csv, write_json
    from unetr_nnunet.evaluation.nnunet_summary import offer_nnunet_summary
    from unetr_nnunet.evaluation.tables import format_protocols

    written = []
    for index, evaluation in enumerate(evaluations):
        stem = f"metrics_{evaluation.protocol.name}" if index else "metrics"
        written += [output / f"{stem}.csv", output / f"{stem}.json"]
        write_csv(evaluation, written[-2])
        write_json(evaluation, written[-1])
    if offer_nnunet_summary(evaluations[0], output / "summary.json"):
        written.append(output / "summary.json")
    if len(evaluations) > 1:
        written.append(output / "protocols.md")
        with atomic_path(written[-1]) as temporary:
            temporary.write_text(format_protocols(evaluations) + "\n", encoding="utf-8")
    return written


def _report_problems(evaluation: "Evaluation") -> int:
    for case, how in evaluation.resampled.items():
        print(f"resampled {case}: {how}", file=sys.stderr)
    problems = [
        *(f"refused {case}: {reason}" for case, reason in evaluation.refused.items()),
        *(f"missing: no prediction for the label {stem}" for stem in evaluation.without_prediction),
        *(f"extra: no label for the prediction {stem}" for stem in evaluation.without_label),
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0
