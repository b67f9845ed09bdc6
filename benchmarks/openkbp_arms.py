"""Train a study of OpenKBP in several sittings: what `crossval` does, but each finished training is kept as figures.

The steps are the study's own. Of each training ``results/STUDY/TRAINER/`` keeps ``metrics.json``, as `unetr_nnunet
evaluate` writes it but without paths, and ``training.json``: last training loss, and the median seconds of a step while
``--side-by-side`` trainings shared the machine, comparable on one kind of processor. Trainings that are there are not
repeated, also with an empty WORK.

    python -m benchmarks.openkbp_arms WORK --download open-kbp --seeds 0      WORK can be given again to continue
    python -m benchmarks.openkbp_report                             the report on those that are there
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.openkbp_grid import prepare
from unetr_nnunet.atomic import write_json
from unetr_nnunet.evaluation import metrics_file
from unetr_nnunet.evaluation.figures import Evaluation
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.experiments.study import Model
from unetr_nnunet.experiments.study_file import read_study_file
from unetr_nnunet.nnunet.training_log import read_fold_logs

RESULTS = Path(__file__).parent / "results"
STUDIES = Path(__file__).parents[1] / "studies"
STEPS_PER_EPOCH = 250


def without_paths(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation whose files are named without their folders."""
    cases = {
        name: replace(case, prediction=Path(case.prediction).name, label=Path(case.label).name)
        for name, case in evaluation.cases.items()
    }
    folders = {name: Path(getattr(evaluation, name)).name for name in ("predictions", "labels", "label_source")}
    return replace(evaluation, cases=cases, **folders)


def keep(trained: Path, target: Path) -> float:
    """Keep the figures of a training that is validated; return its mean Dice.

    Args:
        trained: the trainer's folder in ``nnUNet_results``.
        target: folder for ``metrics.json`` and ``training.json``.
    """
    evaluation = without_paths(read_model(trained).evaluation)
    (log,) = read_fold_logs(trained)
    cost = {
        "train_loss": log.curve("train_loss")[-1][1],
        "seconds_per_step": statistics.median(seconds for _, seconds in log.curve("seconds")) / STEPS_PER_EPOCH,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    target.mkdir(parents=True, exist_ok=True)
    write_json(cost, target / "training.json")
    metrics_file.write_json(evaluation, target / metrics_file.FILE_NAME)
    return evaluation.over_organs("dice").mean


def chosen(models: Sequence[Model], words: Sequence[str], seeds: Sequence[int]) -> list[Model]:
    """Return the models of some seeds whose trainer contains one of the words, all where none is given.

    Raises:
        ValueError: no model fits.
    """
    of_seeds = [model for seed in seeds for model in models if model.trainer.endswith(f"_seed{seed}")]
    found = [model for model in of_seeds if not words or any(word in model.trainer for word in words)]
    if not found:
        raise ValueError(
            f"no trainer of the study has one of the seeds {list(seeds)} and one of the words {list(words)}"
        )
    return found


def main() -> None:
    """Train what the results do not have, some side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--download", required=True, help="clone of open-kbp")
    parser.add_argument("--study", default="openkbp")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=[], metavar="WORD", help="trainers that contain one; all without")
    parser.add_argument("--side-by-side", type=int, default=2)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    study = read_study_file(STUDIES / f"{arguments.study}.toml")
    models = chosen(study.models, arguments.arms, arguments.seeds)
    environment = prepare(work, arguments.download, study)
    (results,) = Path(environment["nnUNet_results"]).parent.glob("nnUNet_raw/Dataset*")
    (fold,) = study.folds

    def run(model: Model) -> None:
        target = RESULTS / arguments.study / model.trainer
        if (target / metrics_file.FILE_NAME).is_file():
            return
        step = ("train", str(work), "--model", model.identifier, "--fold", str(fold), "--threads", "1")
        command = [sys.executable, "-m", "unetr_nnunet.experiments.steps", *step]
        with (work / "logs" / f"{model.trainer}.log").open("a", encoding="utf-8") as log:
            code = subprocess.run(
                command, env={**os.environ, **environment}, stdout=log, stderr=log, check=False
            ).returncode
        if code:
            raise RuntimeError(f"{model.trainer} failed: see {log.name}")
        trained = Path(environment["nnUNet_results"]) / results.name / model.identifier
        print(f"{model.trainer}: {keep(trained, target):.4f}", flush=True)

    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        list(pool.map(run, models))


if __name__ == "__main__":
    main()
