"""Compare predicted label maps with the true ones: Dice of every organ, by case and as mean.

example:
  unetr_nnunet evaluate predictions/ nnUNet_raw/Dataset017_BTCV/labelsTr

Files (.nii.gz, .nii, .nrrd, .mha) are joined by name, or by the four digits at its end (BTCV_0061 with label0061).
Organs are those of the dataset.json in PREDICTIONS or beside LABELS, else the 13 of BTCV. Both files of a case must
lie on the same grid. Writes metrics.csv and metrics.json, and prints a table. The exit code is 1 where a case has no
partner or was refused; the other cases are scored all the same.
"""

import argparse
import os
import sys
from pathlib import Path

from unetr_nnunet.evaluation.absent_organs import DEFAULT_RULE, RULES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="folder of predicted label maps")
    parser.add_argument("labels", type=Path, metavar="LABELS", help="folder of true label maps")
    parser.add_argument("-o", "--output", type=Path, help="folder of metrics.csv and metrics.json (PREDICTIONS)")
    parser.add_argument(
        "--absent-organs",
        choices=RULES,
        default=DEFAULT_RULE.name,
        help="what an organ scores that truth, prediction or both lack: as nnU-Net has it (default), or as the code "
        "behind the tables of UNETR, UNETR++ or TransUNet; the rule is printed with the table",
    )
    parser.add_argument("--workers", type=int, help="cases scored at once (as many as processors, at most 8)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write, print."""
    from unetr_nnunet.evaluation.folder import evaluate_folder
    from unetr_nnunet.evaluation.tables import format_table, write_csv, write_json

    workers = arguments.workers if arguments.workers is not None else min(os.cpu_count() or 1, 8)
    output = arguments.output or arguments.predictions
    rule = RULES[arguments.absent_organs]
    evaluation = evaluate_folder(arguments.predictions, arguments.labels, rule=rule, workers=workers, progress=True)
    write_csv(evaluation, output / "metrics.csv")
    write_json(evaluation, output / "metrics.json")
    print(format_table(evaluation))
    print(f"Written: {output / 'metrics.csv'}, {output / 'metrics.json'}")
    problems = [
        *(f"refused {case}: {reason}" for case, reason in evaluation["refused"].items()),
        *(f"missing: no prediction for the label {stem}" for stem in evaluation["without_prediction"]),
        *(f"extra: no label for the prediction {stem}" for stem in evaluation["without_label"]),
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0
