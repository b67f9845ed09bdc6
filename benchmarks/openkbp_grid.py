"""Search the learning rates of every arm of ``studies/openkbp.toml``, on the tuning patients.

Each point trains on the 69 training patients and is judged by nnU-Net's pseudo Dice over the last epoch's 100
validation patches of the 16 tuning patients; all runs have one seed, and so the same patches. No reporting patient is
read. A training is shorter than the study's, with the whole schedule in it. All arms have the same grid; one rate is
changed while the other stays, and an arm without a transformer has one rate. The original, the first version and the
U-Net, whose best point lay at the edge of a first grid, were searched further with ``--also``: these points are in the
table too. The others have theirs within 0.005 of each other.

    python -m benchmarks.openkbp_grid WORK --download open-kbp      WORK can be given again to continue

The table is written after each training; points that it has already are not repeated, also with an empty WORK.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Lock

from benchmarks.commands import run_once
from unetr_nnunet.architectures.registry import load
from unetr_nnunet.atomic import atomic_path, write_json
from unetr_nnunet.experiments.crossval import write_inputs
from unetr_nnunet.experiments.settings import Settings
from unetr_nnunet.experiments.study import FILE as STUDY_FILE
from unetr_nnunet.experiments.study import Study, read_study
from unetr_nnunet.experiments.study_file import read_study_file
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, trainer_folder
from unetr_nnunet.trainers.names import parse_trainer_name

ROOT = Path(__file__).parent
STUDY = ROOT.parent / "studies" / "openkbp.toml"
POINTS, TABLE = ROOT / "results" / "openkbp_grid.json", ROOT / "results" / "openkbp_grid.md"
RATES = ((8e-3, 1e-3), (8e-3, 3e-4), (3e-3, 3e-4))
"""Peak learning rates of the network, and of its transformer and tokenizer."""
SEED, EPOCHS, TUNE_FOLD = 0, 4, 0
Point = dict[str, list[float]]
"""Pseudo Dice and seconds of each epoch, and the last epoch's pseudo Dice of each organ."""
TRAIN = """
import json, sys
import torch
from nnunetv2.run.run_training import get_trainer_from_args
dataset, configuration, fold, name = sys.argv[1:]
trainer = get_trainer_from_args(dataset, configuration, int(fold), name, "nnUNetPlans", device=torch.device("cpu"))
trainer.disable_checkpointing = True
trainer.run_training()
log = trainer.logger.local_logger.my_fantastic_logging
seconds = [end - start for start, end in zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"])]
found = {"dice": log["mean_fg_dice"], "organs": log["dice_per_class_or_region"][-1], "seconds": seconds}
print(json.dumps({name: [float(value) for value in values] for name, values in found.items()}))
"""


def trainers(arms: Sequence[str]) -> list[str]:
    """Return the trainers of the grid: of each point those of all arms, so that a part of the grid is fair too."""
    names = []
    for rate, slow in RATES:
        for arm in arms:
            settings = replace(parse_trainer_name(arm), epochs=EPOCHS, seed=SEED, learning_rate=rate)
            has_transformer = bool(load(settings.architecture).transformer_parameters)
            names.append(str(replace(settings, transformer_learning_rate=slow if has_transformer else None)))
    return list(dict.fromkeys(names))


def beside(names: Sequence[str]) -> list[str]:
    """Return trainers that are points of the table, too, though not of the grid.

    Raises:
        ValueError: one has no learning rate, or another length or seed.
    """
    for name in names:
        settings = parse_trainer_name(name)
        if not settings.learning_rate or (settings.epochs, settings.seed) != (EPOCHS, SEED):
            raise ValueError(f"{name}: its name must hold lr<R>, {EPOCHS}epochs and seed{SEED}")
    return list(names)


def prepare(work: Path, download: str, study: Study) -> dict[str, str]:
    """Convert, plan and preprocess the data as a study does; return nnU-Net's environment.

    Raises:
        SystemExit: ``work`` holds the data of another study.
    """
    folders = {name: str(work / name) for name in FOLDERS}
    if (work / STUDY_FILE).is_file():
        other = read_study(work / STUDY_FILE)
        if any(getattr(other, name) != getattr(study, name) for name in ("dataset", "data", "plans", "configurations")):
            raise SystemExit(f"{work} holds other data than the study asks for: give another folder")
    settings = Settings("local", "cpu", 0, 1, 2, 1, 1, False, download=download, folders=folders)
    write_inputs(study, settings, work)
    for step in ("data", "plan", "preprocess"):
        run_once(work, folders, {step: ("python", "-m", "unetr_nnunet.experiments.steps", step, str(work))})
    environment = {EXTERNAL_TRAINERS: str(trainer_folder()), "nnUNet_compile": "f", "nnUNet_n_proc_DA": "0"}
    return {**os.environ, **folders, **environment, "OMP_NUM_THREADS": "1"}


def train(name: str, environment: dict[str, str], work: Path) -> Point:
    """Train one point of the grid; return nnU-Net's pseudo Dice of each epoch, and the seconds."""
    study = read_study_file(STUDY)
    words = [str(study.dataset), study.models[0].configuration, str(TUNE_FOLD), name]
    log = work / "logs" / f"{name}.log"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{name} failed: see {log}")
    found: Point = json.loads(done.stdout.splitlines()[-1])
    return found


def table(points: dict[str, Point]) -> str:
    """Return the page."""
    lines = [
        "# Learning rates of the arms of studies/openkbp.toml",
        "",
        f"Written by `benchmarks/openkbp_grid.py`, whose docstring says how, on {datetime.date.today()}: {EPOCHS} "
        f"epochs of 250 steps, seed {SEED}, one thread of {platform.machine()}, torch {version('torch')}, nnunetv2 "
        f"{version('nnunetv2')}. Pseudo Dice of the last epoch, over 100 patches of the 16 tuning patients.",
        "",
        "| arm | learning rate | of transformer and tokenizer | pseudo Dice |",
        "|---|---|---|---|",
    ]
    for name, point in points.items():
        settings = parse_trainer_name(name)
        arm = str(replace(settings, learning_rate=None, transformer_learning_rate=None, epochs=None, seed=None))
        slow = settings.transformer_learning_rate
        rates = f"{settings.learning_rate:g} | {f'{slow:g}' if slow else ''}"
        lines.append(f"| `{arm}` | {rates} | {point['dice'][-1]:.4f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Train what the table does not have, two trainings side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--download", required=True, help="clone of open-kbp")
    parser.add_argument("--arms", nargs="+", help="trainers; those of the study without")
    parser.add_argument(
        "--also", nargs="+", default=[], metavar="TRAINER", help="points beside the grid, with all tokens"
    )
    parser.add_argument("--side-by-side", type=int, default=2)
    arguments = parser.parse_args()
    also = beside(arguments.also)
    arguments.work.mkdir(parents=True, exist_ok=True)
    study = read_study_file(STUDY)
    environment = prepare(arguments.work.resolve(), arguments.download, study)
    points = json.loads(POINTS.read_text(encoding="utf-8")) if POINTS.exists() else {}
    arms = arguments.arms or list(dict.fromkeys(model.trainer for model in study.models))
    names = [*trainers(arms), *also]
    lock = Lock()

    def run(name: str) -> None:
        if name in points:
            return
        found = train(name, environment, arguments.work)
        with lock:
            points[name] = found
            write_json(points, POINTS)
            with atomic_path(TABLE) as temporary:
                temporary.write_text(table(points), encoding="utf-8")
        print(f"{name}: {found['dice'][-1]:.4f}", flush=True)

    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        list(pool.map(run, names))


if __name__ == "__main__":
    main()
