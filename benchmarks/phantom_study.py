"""Compare the architectures on the phantom, as a table and a plot: equal steps and equal time, several seeds.

The data are those of the demo, with more test cases; every network has the Tiny size, is trained on one fold without
augmentation, and predicts the held-out phantoms through nnU-Net's own commands. "Equal steps" is the same number of
epochs of 250 iterations for all. "Equal time" gives each network the epochs that fit into the original's time; its
learning-rate schedule is that long. Equal time has several seeds; of equal steps only the networks whose epochs are
the same in both, the others have one, as has nnU-Net's own network, which costs ten times a step. The time is the
processor time of the trainers' own training step on one thread, median of steps made in turn, so that what else runs on
the machine counts little. nnU-Net's default network has the configuration's plan, its own optimiser and schedule, and
no augmentation either, nor mirroring in prediction. The first seed's networks after equal time are also compared by
`unetr_nnunet report`.

    python -m benchmarks.phantom_study WORK --epochs 4 --seeds 3        WORK can be given again to continue
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.commands import Command, run_once
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.experiments.crossval import write_inputs
from unetr_nnunet.experiments.demo import STUDY_FILE
from unetr_nnunet.experiments.settings import Settings
from unetr_nnunet.experiments.study_file import read_study_file
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, trainer_folder
from unetr_nnunet.organs import ORGANS
from unetr_nnunet.report.page import write_report

DATASET, CONFIGURATION = "Dataset017_BTCV", "demo"
RESULTS = Path(__file__).parent / "results" / "phantom_study.md"
REPORT = Path(__file__).parent.parent / "docs" / "reports" / "phantom_study.html"
ARCHITECTURES = {
    "original": "nnUNetTrainerUNETR",
    "CNNStem": "nnUNetTrainerUNETR_CNNStem",
    "ModernViT": "nnUNetTrainerUNETR_ModernViT",
    "AlignedSkips": "nnUNetTrainerUNETR_AlignedSkips",
    "FPN": "nnUNetTrainerUNETR_FPN",
    "Modified": "nnUNetTrainerUNETR_Modified",
    "Modified, NoTransformer": "nnUNetTrainerUNETR_Modified_NoTransformer",
    "original, NoTransformer": "nnUNetTrainerUNETR_NoTransformer",
    "nnU-Net default": "nnUNetTrainerNoDA",
}
THIN = (
    "esophagus",
    "portal_and_splenic_veins",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)
TIMED_STEPS = 15
LIMITS = (
    "**What this does not show.** The rates are not tuned for each network, and a patch holds eight tokens of the",
    "original. So these figures do not say which network is better, or whether a transformer helps",
    "([why](../../docs/explanation/architectures.md)).",
)
"""Stated above the tables."""
YARDSTICK = """
import torch
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA


class {name}(nnUNetTrainerNoDA):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = {epochs}
        torch.manual_seed({seed})
        torch.set_num_threads(1)
"""


def trainer_name(architecture: str, epochs: int, seed: int, folder: Path) -> str:
    """Return the trainer of one run; nnU-Net's own gets a class of its own in ``folder``."""
    base = ARCHITECTURES[architecture]
    if architecture != "nnU-Net default":
        return f"{base}_Tiny_NoAug_{epochs}epochs_seed{seed}"
    name = f"{base}_{epochs}epochs_seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name.lower()}.py").write_text(YARDSTICK.format(name=name, epochs=epochs, seed=seed), encoding="utf-8")
    return name


def prepare(work: Path) -> None:
    """Make the data of the demo, with ten test cases, and preprocess them."""
    study = read_study_file(STUDY_FILE)
    phantom, convert = study.data
    more_cases = tuple("10" if before == "--testing" else word for before, word in pairwise(("", *phantom)))
    folders = {name: str(work / name) for name in FOLDERS}
    settings = Settings("local", "cpu", 0, 1, 2, 1, 1, False, folders=folders)
    write_inputs(replace(study, data=(more_cases, convert)), settings, work)
    for step in ("data", "plan", "preprocess"):
        run_once(work, {}, {step: ("python", "-m", "unetr_nnunet.experiments.steps", step, str(work))})


def train_and_predict(work: Path, trainers: list[str], side_by_side: int) -> None:
    """Run the trainings and predictions, several side by side."""
    raw = work / "nnUNet_raw" / DATASET
    train: dict[str, Command] = {}
    predict: dict[str, Command] = {}
    for trainer in trainers:
        resume = ("--c",) if trainer.startswith("nnUNetTrainerUNETR") else ()
        options = ("17", CONFIGURATION, "0", "-tr", trainer, "-device", "cpu", *resume)
        train[f"train_{trainer}"] = ("nnUNetv2_train", *options)
        options = ("-d", "17", "-c", CONFIGURATION, "-tr", trainer, "-f", "0", "-device", "cpu")
        folders = ("-i", str(raw / "imagesTs"), "-o", str(work / "study" / trainer), "-npp", "1", "-nps", "1")
        predict[f"predict_{trainer}"] = ("nnUNetv2_predict", *options, *folders)
    for start in range(0, len(trainers), side_by_side):
        for commands in (train, predict):
            run_once(work, {}, dict(list(commands.items())[start : start + side_by_side]))


def step_seconds(work: Path, names: list[str], folder: Path) -> dict[str, float]:
    """Return the processor seconds of a training step of each architecture, kept in a file of ``work``."""
    kept = work / "step_seconds.json"
    found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if not set(names) - set(found):
        return found
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    trainers = {}
    for name in names:
        words = ("17", CONFIGURATION, 0, trainer_name(name, 1, 0, folder))
        trainers[name] = get_trainer_from_args(*words, device=torch.device("cpu"))
        trainers[name].initialize()
        trainers[name].network.train()
    patch, batch = (plan_of(work)[key] for key in ("patch_size", "batch_size"))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for step in range(TIMED_STEPS + 2):
        for name, trainer in trainers.items():
            scales = trainer._get_deep_supervision_scales() or [[1] * len(patch)]
            sizes = [[round(length * part) for length, part in zip(patch, scale, strict=True)] for scale in scales]
            target = [torch.randint(0, len(ORGANS) + 1, (batch, 1, *size)).to(torch.int16) for size in sizes]
            start = time.process_time()
            trainer.train_step(
                {
                    "data": torch.randn(batch, 1, *patch),
                    "target": target if trainer.enable_deep_supervision else target[0],
                }
            )
            if step >= 2:
                seconds[name].append(time.process_time() - start)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


@cache
def scores(work: Path, trainer: str) -> dict[str, float]:
    """Return the mean Dice of each organ over the test cases, and "mean" and "thin" of organs."""
    evaluation = evaluate_folder(work / "study" / trainer, work / "download" / "Testing_labels")
    organs = {name: evaluation.over_cases(name).mean for name in evaluation.columns}
    thin = statistics.fmean(organs[name] for name in THIN)
    return organs | {"thin": thin, "mean": statistics.fmean(organs[organ.name] for organ in ORGANS)}


def spread(values: list[float]) -> str:
    """Return mean and range over the seeds."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def table(runs: dict[str, dict[int, str]], epochs: dict[str, int], seconds: dict[str, float], work: Path) -> list[str]:
    """Return one series' table: architectures down, figures across."""
    lines = ["| network | seeds | epochs | ms a step | mean of 13 organs | thin organs |", "|---|---|---|---|---|---|"]
    for architecture, by_seed in runs.items():
        found = [scores(work, trainer) for trainer in by_seed.values()]
        figures = " | ".join(spread([each[key] for each in found]) for key in ("mean", "thin"))
        cost = f"{epochs[architecture]} | {1000 * seconds[architecture]:.0f}"
        lines.append(f"| {architecture} | {len(by_seed)} | {cost} | {figures} |")
    return [*lines, ""]


def organ_table(runs: dict[str, dict[int, str]], work: Path) -> list[str]:
    """Return the mean over the seeds of every organ and architecture."""
    lines = ["| organ | " + " | ".join(runs) + " |", "|---" * (len(runs) + 1) + "|"]
    means = {
        architecture: [scores(work, trainer) for trainer in by_seed.values()] for architecture, by_seed in runs.items()
    }
    for organ in ORGANS:
        row = [f"{statistics.fmean(each[organ.name] for each in found):.2f}" for found in means.values()]
        lines.append(f"| {organ.name.replace('_', ' ')} | " + " | ".join(row) + " |")
    return [*lines, ""]


def plot(series: dict[str, dict[str, dict[int, str]]], work: Path, target: Path) -> None:
    """Draw the mean Dice of every run, one panel a series."""
    figure, panels = plt.subplots(1, len(series), figsize=(10, 4.2), sharey=True, sharex=True, squeeze=False)
    for axes, (title, runs) in zip(panels[0], series.items(), strict=True):
        for row, by_seed in enumerate(runs.values()):
            found = [scores(work, trainer) for trainer in by_seed.values()]
            for key, colour, shift in (("mean", "#3b5b92", -0.12), ("thin", "#c0713a", 0.12)):
                values = [each[key] for each in found]
                label = {"mean": "13 organs", "thin": "thin organs"}[key] if row == 0 else None
                axes.plot(values, [row + shift] * len(values), "o", ms=4, color=colour, alpha=0.5)
                axes.plot(statistics.fmean(values), row + shift, "|", ms=14, mew=2, color=colour, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_yticks(range(len(runs)), list(runs))
        axes.set_xlabel("Dice on held-out phantoms")
        axes.grid(axis="x", color="#dddddd")
    panels[0][0].invert_yaxis()
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="lower right", ncol=2, frameon=False, fontsize=8)
    figure.savefig(target, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run what is missing, and write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for all files")
    parser.add_argument("--epochs", type=int, default=5, help="of the equal-steps series")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), choices=ARCHITECTURES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", type=Path, default=REPORT)
    arguments = parser.parse_args()
    work, own_trainers = arguments.work.resolve(), arguments.work.resolve() / "trainers"
    environment = {
        EXTERNAL_TRAINERS: os.pathsep.join([str(trainer_folder()), str(own_trainers)]),
        **{name: str(work / name) for name in FOLDERS},
        "OMP_NUM_THREADS": "1",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
    }
    side_by_side = os.cpu_count() or 1
    os.environ.update(environment)  # before nnunetv2 is imported
    names = arguments.architectures
    prepare(work)

    def series(epochs: dict[str, int], seeds: int) -> dict[str, dict[int, str]]:
        seeds_of = {name: range(1 if name == "nnU-Net default" else seeds) for name in names}
        runs = {
            name: {seed: trainer_name(name, epochs[name], seed, own_trainers) for seed in seeds_of[name]}
            for name in names
        }
        todo = [runs[name][seed] for seed in range(seeds) for name in names if seed in seeds_of[name]]
        train_and_predict(work, todo, side_by_side)
        return runs

    equal_steps = dict.fromkeys(names, arguments.epochs)
    by_steps = series(equal_steps, 1)
    seconds = step_seconds(work, names, own_trainers)
    reference = seconds.get("original", max(seconds.values()))
    equal_time = {name: max(1, round(arguments.epochs * reference / seconds[name])) for name in names}
    by_time = series(equal_time, arguments.seeds)
    by_steps |= {name: runs for name, runs in by_time.items() if equal_time[name] == arguments.epochs}
    lines = [
        "# The architectures on the phantom",
        "",
        f"Written by `benchmarks/phantom_study.py`, whose docstring says how, on {datetime.date.today()}: "
        f"{platform.machine()}, {side_by_side} cores, one thread a training, torch {version('torch')}, nnunetv2 "
        f"{version('nnunetv2')}. Plan: {json.dumps(plan_of(work))}. 12 training cases, 10 test cases, "
        f"Dice as mean over the seeds, with lowest and highest of several.",
        "",
        *LIMITS,
        "",
        "## Equal steps",
        "",
        *table(by_steps, equal_steps, seconds, work),
        "## Equal time",
        "",
        *table(by_time, equal_time, seconds, work),
        "Organ by organ, equal time:",
        "",
        *organ_table(by_time, work),
        "![plot](phantom_study.png)",
        "",
    ]
    arguments.results.write_text("\n".join(lines), encoding="utf-8")
    plot({"equal steps": by_steps, "equal time": by_time}, work, arguments.results.with_suffix(".png"))
    trained = {f"{name}, seed {seed}": each for name, by_seed in by_time.items() for seed, each in by_seed.items()}
    report(trained, work, arguments.report.resolve())
    print("\n".join(lines))


def report(trainers: dict[str, str], work: Path, target: Path) -> None:
    """Write the page; names of files in it are relative to the work folder."""
    results, labels = work / "nnUNet_results" / DATASET, work / "download" / "Testing_labels"
    models = [read_model(work / "study" / trainer, labels, name=name) for name, trainer in trainers.items()]
    write_report(
        models,
        target,
        images=work / "nnUNet_raw" / DATASET / "imagesTs",
        training={name: results / f"{each}__nnUNetPlans__{CONFIGURATION}" for name, each in trainers.items()},
        title="The architectures on the phantom, after equal training time",
        command=["python", "-m", "benchmarks.phantom_study", "WORK", "--epochs", "4", "--seeds", "3"],
        most_worst_cases=3,
    )
    target.write_text(target.read_text(encoding="utf-8").replace(str(work), "WORK"), encoding="utf-8")


def plan_of(work: Path) -> dict[str, Any]:
    """Return what matters of the configuration."""
    plans = json.loads((work / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text(encoding="utf-8"))
    return {key: plans["configurations"][CONFIGURATION][key] for key in ("spacing", "patch_size", "batch_size")}


if __name__ == "__main__":
    main()
