"""How far the same masks move between protocols that are all called "BTCV Dice", as Markdown tables.

Scores the predictions that `benchmarks/phantom_study.py` left in WORK: test phantoms, one without a gallbladder, and
networks of a few minutes' training. First every organ of one network under every protocol; then one thing changed
at a time, also with the gallbladder taken out of the masks of the phantom that has none; then all networks named, with
their rank under each protocol.

    python benchmarks/protocol_spread.py WORK --models nnUNetTrainerUNETR_Tiny_NoAug_4epochs_seed0 ...
"""

import argparse
import datetime
import tempfile
from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from unetr_nnunet.evaluation.figures import Evaluation
from unetr_nnunet.evaluation.folder import evaluate_protocols
from unetr_nnunet.evaluation.protocols import PROTOCOLS, RULES, Protocol
from unetr_nnunet.evaluation.tables import format_protocols
from unetr_nnunet.images.files import pair_cases

RESULTS = Path(__file__).parent / "results" / "protocol_spread.md"
NNUNET = PROTOCOLS["nnunet"]
GALLBLADDER = 4
SINGLE_CHANGES: dict[str, Protocol] = {
    "nnU-Net's": NNUNET,
    "absent organs as UNETR has it": NNUNET.with_rule(RULES["unetr"]),
    "absent organs as UNETR++ has it": NNUNET.with_rule(RULES["unetr_plus_plus"]),
    "absent organs as TransUNet has it": NNUNET.with_rule(RULES["transunet"]),
    "adrenal glands joined": PROTOCOLS["btcv-challenge"],
    "8 organs instead of 13": PROTOCOLS["synapse-8"].with_rule(NNUNET.rule),
    "grid of 1.5 x 1.5 x 2.0 mm": PROTOCOLS["unetr"].with_rule(NNUNET.rule),
}


def mean_dice(evaluation: Evaluation) -> float:
    """Return the mean over columns in percent."""
    return 100 * evaluation.over_organs().mean


def without_false_gallbladders(predictions: Path, labels: Path, target: Path) -> None:
    """Copy masks, without the gallbladder where truth has none."""
    for case, (prediction, label) in pair_cases(predictions, labels).pairs.items():
        mask, truth = sitk.ReadImage(str(prediction)), sitk.ReadImage(str(label))
        if GALLBLADDER not in sitk.GetArrayViewFromImage(truth):
            mask = sitk.ChangeLabel(mask, {GALLBLADDER: 0})
        sitk.WriteImage(mask, str(target / f"{case}.nii.gz"))


def changes_table(as_predicted: Sequence[Evaluation], corrected: Sequence[Evaluation]) -> list[str]:
    """Return the effect of each single change on the mean, for the masks as they are and for corrected ones."""
    lines = [
        "| protocol | mean Dice, % | points | without the false gallbladder, % | points |",
        "|---|---:|---:|---:|---:|",
    ]
    for words, *pair in zip(SINGLE_CHANGES, as_predicted, corrected, strict=True):
        cells = []
        for evaluation, start in zip(pair, (as_predicted[0], corrected[0]), strict=True):
            change = "" if evaluation is start else f"{mean_dice(evaluation) - mean_dice(start):+.2f}"
            cells.append(f"{mean_dice(evaluation):.2f} | {change}")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def models_table(by_model: dict[str, list[Evaluation]]) -> list[str]:
    """Return the mean and rank of each model under each protocol."""
    lines = [f"| model | {' | '.join(PROTOCOLS)} | spread, points |", "|---" + "|---:" * (len(PROTOCOLS) + 1) + "|"]
    means = {model: [mean_dice(evaluation) for evaluation in evaluations] for model, evaluations in by_model.items()}
    for model, figures in means.items():
        ranks = [1 + sum(other[index] > figure for other in means.values()) for index, figure in enumerate(figures)]
        cells = [f"{figure:.2f} (rank {rank})" for figure, rank in zip(figures, ranks, strict=True)]
        lines.append(f"| {model} | {' | '.join(cells)} | {max(figures) - min(figures):.2f} |")
    return lines


def main() -> None:
    """Score, write the tables, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="folder of phantom_study.py")
    parser.add_argument("--models", nargs="+", required=True, help="folders of WORK/study, the first in most detail")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    labels = arguments.work / "download" / "Testing_labels"
    by_model: dict[str, list[Evaluation]] = {}
    protocols = list(PROTOCOLS.values())
    for model in arguments.models:
        wanted = protocols if by_model else [*protocols, *SINGLE_CHANGES.values()]
        by_model[model], _ = evaluate_protocols(
            arguments.work / "study" / model, labels, wanted, workers=arguments.workers, progress=True
        )
    with tempfile.TemporaryDirectory() as folder:
        without_false_gallbladders(arguments.work / "study" / arguments.models[0], labels, Path(folder))
        changes = list(SINGLE_CHANGES.values())
        corrected, _ = evaluate_protocols(Path(folder), labels, changes, workers=arguments.workers, progress=True)
    first, evaluations = next(iter(by_model.items()))
    by_model[first], single = evaluations[: len(protocols)], evaluations[len(protocols) :]
    cases = by_model[first][0].cases
    grid = next(iter(cases.values())).grid
    spacing = " x ".join(f"{value:.3g}" for value in reversed(grid.spacing_mm))
    lines = [
        "# The same masks under every protocol",
        "",
        f"Written by `benchmarks/protocol_spread.py` on {datetime.date.today()}: {len(cases)} test phantoms, voxels of "
        f"{spacing} mm, predicted by small networks of the phantom study; one phantom has no gallbladder. Dice as mean "
        "over cases, then over columns. Phantoms are easier than patients: the differences between the columns are "
        "what this page is about, not the figures.",
        "",
        f"## {first}",
        "",
        format_protocols(by_model[first]),
        "",
        "## One thing changed at a time",
        "",
        *changes_table(single, corrected),
        "",
        "## Several networks",
        "",
        *models_table(by_model),
    ]
    text = "\n".join(lines) + "\n"
    arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
