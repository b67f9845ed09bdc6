"""Report the trainings that `openkbp_arms` has kept: a page, and its tables under a heading that says what they are of.

What the study asks is how far `Modified` is from each other arm, so that stands first, whichever arm is the best.

python -m benchmarks.openkbp_report                     writes docs/reports/openkbp.html and .md
python -m benchmarks.openkbp_report openkbp_parts
"""

import argparse
import datetime
import json
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.openkbp_arms import RESULTS, STUDIES
from unetr_nnunet.evaluation import metrics_file
from unetr_nnunet.evaluation.metrics import METRICS, p_value
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.experiments.steps import program
from unetr_nnunet.experiments.study import Study
from unetr_nnunet.experiments.study_file import read_study_file
from unetr_nnunet.report.models import gather
from unetr_nnunet.report.seeds import name_without_seed

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "docs" / "reports"
SUBJECT = {"openkbp": "Modified", "openkbp_parts": "original"}
"""The row of a study's tables that all others are compared with."""


def kept(study: Study, results: Path) -> list[Path]:
    """Return the folders of the study's trainings that are there, in its order."""
    folders = [results / model.trainer for model in study.models]
    return [folder for folder in folders if (folder / metrics_file.FILE_NAME).is_file()]


def names(study: Study, trainings: Sequence[Path]) -> list[str]:
    """Return what readers call each training: the label of its row in the study's tables, and its seed."""
    labels = {trainer: label for table in study.tables for label, trainer in table.rows}
    parts = (folder.name.rpartition("_seed") for folder in trainings)
    return [f"{labels[trainer]}, seed {seed}" for trainer, _, seed in parts]


def heading(name: str, study: Study, trainings: Sequence[Path]) -> Iterator[str]:
    """Yield the lines that stand above the tables."""
    cost = {folder.name: json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in trainings}
    torch = sorted({each["torch"] for each in cost.values()})
    yield f"# {len(trainings)} of the {len(study.models)} trainings of `studies/{name}.toml`"
    yield ""
    yield (
        f"Written by `benchmarks/openkbp_report.py` on {datetime.date.today()} from the trainings that "
        f"`benchmarks/openkbp_arms.py` has kept: torch {', '.join(torch)}, nnunetv2 {version('nnunetv2')}, one core "
        "each, two side by side. Real CTs of the head and neck at 3 mm (OpenKBP), networks of size Tiny; 69 patients "
        f"to train, 30 to report. The whole [report]({name}.html)."
    )
    yield ""
    yield "| | trainer | seed: seconds a step | training loss |"
    yield "|---|---|---|---|"
    for label, trainer in dict.fromkeys(row for table in study.tables for row in table.rows):
        here = {folder: cost[folder] for folder in cost if folder.rpartition("_seed")[0] == trainer}
        seconds = [
            f"{folder.rpartition('_seed')[2]}: {each['seconds_per_step']:.2f} ({each['processor']})"
            for folder, each in here.items()
        ]
        loss = [f"{each['train_loss']:.3f}" for each in here.values()]
        yield f"| {label} | `{trainer}` | {', '.join(seconds)} | {', '.join(loss)} |"
    yield ""


def differences(study: Study, trainings: Sequence[Path], subject: str) -> Iterator[str]:
    """Yield a table of how far the arm of one row is from that of each other row, best first, if it is there."""
    files = [folder / metrics_file.FILE_NAME for folder in trainings]
    named = zip(files, names(study, trainings), strict=True)
    reported = gather([read_model(file, name=name) for file, name in named])
    pairs = {
        pair.second: pair.mean
        for of_subject in reported.models
        if reported.comparison and name_without_seed(of_subject) == subject
        for pair in reported.comparison.pairs_of(of_subject.name)
    }
    if not pairs:
        return
    dice = METRICS["dice"]
    yield f"Mean Dice of {subject} less that of the other arm. p: Wilcoxon signed-rank test over the patients, Holm."
    yield ""
    yield "| other arm | seeds | difference | 95 % interval over patients and seeds | p |"
    yield "|---|---|---|---|---|"
    for model in reported.models:
        if mean := pairs.get(model.name):
            seeds = len(reported.seeds.get(model.name, [model]))
            interval = dice.interval(mean.low, mean.high, signed=True)
            figures = (dice.text(mean.difference, signed=True), interval, p_value(mean.p_holm))
            yield f"| {name_without_seed(model)} | {seeds} | {' | '.join(figures)} |"
    yield ""


def main() -> None:
    """Write page and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="openkbp", choices=SUBJECT)
    name = parser.parse_args().study
    study = read_study_file(STUDIES / f"{name}.toml")
    trainings = kept(study, RESULTS / name)
    if not trainings:
        parser.error(f"no training of {name} is kept in {RESULTS / name}: run benchmarks.openkbp_arms first")
    page, tables = (REPORTS / f"{name}{ending}" for ending in (".html", ".md"))
    title = f"{name}: {len(trainings)} of {len(study.models)} trainings"
    # from the checkout, since the page names what it was given
    paths = [
        str(path.relative_to(ROOT)) for path in (*(each / metrics_file.FILE_NAME for each in trainings), page, tables)
    ]
    words = (*paths[:-2], "--names", *names(study, trainings), "-o", paths[-2], "--tables", paths[-1], "--title", title)
    subprocess.run(program("unetr_nnunet", "report", *words), check=True, cwd=ROOT)
    lines = [*heading(name, study, trainings), *differences(study, trainings, SUBJECT[name])]
    lines.append(tables.read_text(encoding="utf-8"))
    tables.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
