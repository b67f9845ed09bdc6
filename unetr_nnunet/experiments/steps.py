"""The steps of a study, as the workflow runs them: ``python -m unetr_nnunet.experiments.steps STEP FOLDER ...``.

A step runs the stock nnU-Net commands and our own, says which, and can be repeated after a kill at any moment.
"""

import argparse
import logging
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from unetr_nnunet.atomic import atomic_path, write_json
from unetr_nnunet.experiments.gpu_slots import locks_folder, take_gpus, visible_gpus
from unetr_nnunet.experiments.resources import EXPORTS
from unetr_nnunet.experiments.settings import read_settings
from unetr_nnunet.experiments.study import FILE, read_study
from unetr_nnunet.experiments.study_plans import (
    complete_plans,
    planning_commands,
    refuse_impossible_trainings,
    refuse_missing_folds,
)
from unetr_nnunet.inference.model_set import FILE as BEST_MODEL
from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT, DatasetFolders, find_dataset
from unetr_nnunet.nnunet.json_file import read_if_whole
from unetr_nnunet.nnunet.splits import FILE_NAME as SPLITS_FILE
from unetr_nnunet.nnunet.splits import read_splits
from unetr_nnunet.nnunet_hook.commands import without_script

DOWNLOAD = "{download}"
"""Stands for the path of the download in a study's `data`."""
MOST_PROCESSES = 8
"""nnU-Net's own default."""
_log = logging.getLogger(__name__)


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """Return a command whose program lies beside this Python's, independent of PATH; without it what it would call."""
    script = Path(sys.executable).parent / name
    return (str(script), *arguments) if script.is_file() else without_script(name, *arguments)


class StudyStep:
    """The surroundings of a step: study, settings, folders, environment.

    Args:
        folder: the study's.
        threads: processor cores that the step may use.

    Attributes:
        study: the study.
        settings: how it is run.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.folder, self.threads = folder.resolve(), threads
        self.study, self.settings = read_study(self.folder / FILE), read_settings(self.folder)
        self.processes = min(threads, MOST_PROCESSES)
        on_gpu = self.settings.device == "cuda"
        self.environment = {
            **os.environ,
            "nnUNet_def_n_proc": str(self.processes),
            "nnUNet_n_proc_DA": str(max(1, threads - 1) if on_gpu else 1),
            **({} if on_gpu else {"OMP_NUM_THREADS": str(threads)}),
        }

    @property
    def data(self) -> DatasetFolders:
        """The data set's folders."""
        return find_dataset(self.study.dataset)

    @property
    def best_model(self) -> Path:
        """Folder of the chosen models."""
        return self.folder / "best_model" / self.data.name

    def relative(self, path: Path) -> str:
        """Return a path relative to the study's folder, so that a page stays right if both are moved."""
        return os.path.relpath(path, self.folder)

    def take_gpus(self, count: int = 1) -> None:
        """Wait for GPUs that no other step on this machine has; on a cluster the job has its own."""
        if self.settings.device == "cuda" and self.settings.executor == "local":
            mine = take_gpus(locks_folder(), count, visible_gpus())
            self.environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)

    def run(self, *command: str) -> None:
        """Log a command and run it; if it fails, the step fails."""
        _log.info("$ %s", shlex.join(command))
        code = subprocess.run(program(*command), env=self.environment, cwd=self.folder, check=False).returncode
        if code:
            raise RuntimeError(f"{command[0]} ended with exit code {code}")


def _data(step: StudyStep, arguments: argparse.Namespace) -> None:
    try:
        name = step.data.name
    except FileNotFoundError:
        download = step.settings.download or DOWNLOAD
        for command in step.study.data:
            step.run("unetr_nnunet", *(word.replace(DOWNLOAD, download) for word in command))
    else:
        _log.info("%s is there", name)


def _plan(step: StudyStep, arguments: argparse.Namespace) -> None:
    raw, preprocessed = step.data.raw, step.data.preprocessed
    for command in planning_commands(step.study, preprocessed, step.processes):
        step.run(*command)
    complete_plans(step.study, preprocessed, step.folder)
    refuse_impossible_trainings(step.study, preprocessed, step.settings.gpus_per_training)
    splits = preprocessed / SPLITS_FILE
    if read_if_whole(splits) is None:  # folds that start together would both write it
        own = read_if_whole(raw / SPLITS_FILE)
        write_json(own or _nnunet_splits(raw), splits)
    refuse_missing_folds(step.study, splits)


def _nnunet_splits(raw: Path) -> list[dict[str, list[str]]]:
    from nnunetv2.utilities.crossval_split import generate_crossval_split
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    return generate_crossval_split(sorted(get_filenames_of_train_images_and_targets(str(raw))), seed=12345, n_splits=5)


def _preprocess(step: StudyStep, arguments: argparse.Namespace) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    seen = set()
    for model in step.study.models:
        plans = PlansManager(str(step.data.preprocessed / f"{model.plans}.json"))
        data = plans.get_configuration(model.configuration).data_identifier
        if data not in seen:  # plans that share their data are preprocessed once
            seen.add(data)
            options = ("-d", str(step.study.dataset), "-plans_name", model.plans, "-c", model.configuration)
            step.run("nnUNetv2_preprocess", *options, "-np", str(step.processes))


def _train(step: StudyStep, arguments: argparse.Namespace) -> None:
    model, fold, settings = step.study.model(arguments.model), arguments.fold, step.settings
    output = step.data.results / model.identifier / f"fold_{fold}"
    if (output / FINAL_CHECKPOINT).is_file() and read_if_whole(output / "validation" / "summary.json"):
        _log.info("%s is trained and validated", output)
        return
    for checkpoint in output.glob("checkpoint_*.pth"):
        if not zipfile.is_zipfile(checkpoint):
            _log.info("%s is torn (killed while it was written): removed", checkpoint)
            checkpoint.unlink()
    step.environment["nnUNet_def_n_proc"] = str(min(step.threads, EXPORTS))
    command = ["nnUNetv2_train", str(step.study.dataset), model.configuration, str(fold), "-tr", model.trainer]
    command += ["-p", model.plans, "-device", settings.device, "--c"]
    if settings.device == "cuda":
        command += ["-num_gpus", str(settings.gpus_per_training)] if settings.gpus_per_training > 1 else []
        step.take_gpus(settings.gpus_per_training)
    elif step.threads == 1:
        step.environment["nnUNet_n_proc_DA"] = "0"  # a process for augmentation would only get in the way
    _log.info("$ %s", shlex.join(command))
    executed = program(*command)
    os.execve(executed[0], executed, step.environment)  # so that a signal to the step is one to the training


def _probabilities(step: StudyStep, arguments: argparse.Namespace) -> None:
    """Write float16 probabilities of a fold's validation cases, on their original grids."""
    model, fold, data = step.study.model(arguments.model), arguments.fold, step.data
    output = step.folder / "probabilities" / model.identifier / f"fold_{fold}"
    cases = read_splits(data.preprocessed / SPLITS_FILE)[int(fold)].val
    images = output.with_name(f"{output.name}_images")
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    for case in cases:
        for channel in sorted((data.raw / "imagesTr").glob(f"{case}_????.*")):
            (images / channel.name).symlink_to(channel)
    options = ("-m", str(data.results / model.identifier), "-f", fold, "-i", str(images), "-o", str(output))
    step.take_gpus()
    step.run("unetr_nnunet", "predict", *options, "--exact", "--save-probabilities", "--device", step.settings.device)
    shutil.rmtree(images)


def _candidates(step: StudyStep, arguments: argparse.Namespace) -> None:
    """Write the best models, of which ensembles are made, best first."""
    from unetr_nnunet.experiments.best_model import rank_by_validation

    ranked = rank_by_validation(step.study, step.data.results)
    chosen = [identifier for identifier, _ in ranked][: step.study.candidates]
    write_json(chosen, step.folder / "candidates.json")


def _best(step: StudyStep, arguments: argparse.Namespace) -> None:
    from unetr_nnunet.experiments.best_model import choose_best
    from unetr_nnunet.experiments.model_bundle import write_bundle

    workers = min(step.threads, EXPORTS)
    best = choose_best(step.study, step.folder, step.data.results, step.data.preprocessed, workers)
    write_bundle(best, step.data.results, step.best_model)


def _test(step: StudyStep, arguments: argparse.Namespace) -> None:
    """Predict the data set's test images, if it has any, and score them, if their labels are there."""
    data, model = step.data, step.best_model
    images, labels = data.raw / "imagesTs", data.raw / "labelsTs"
    if not images.is_dir() or not any(images.iterdir()):
        _log.info("%s has no test images", data.name)
        return
    _forget_other_predictions(step.folder / "predictions", (model / BEST_MODEL).read_text(encoding="utf-8"))
    options = ("-m", str(model), "-i", str(images))
    step.take_gpus()
    step.run("unetr_nnunet", "predict", *options, "-o", "predictions", "--device", step.settings.device, "--resume")
    if labels.is_dir() and any(labels.iterdir()):
        scored = ("predictions", "--labels", str(labels), "--images", str(images), "-o", "test_report.html")
        step.run("unetr_nnunet", "report", *scored, "--names", "best model", "--title", f"Test set of {data.name}")


def _forget_other_predictions(folder: Path, model: str) -> None:
    """Remove the masks of a model that is no longer the chosen one."""
    key = folder / "predicted_by.json"
    if key.is_file() and key.read_text(encoding="utf-8") == model:
        return
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_path(key) as temporary:
        temporary.write_text(model, encoding="utf-8")


def _report(step: StudyStep, arguments: argparse.Namespace) -> None:
    from unetr_nnunet.experiments.study_tables import write_tables

    models, data = step.study.models, step.data
    folders = [data.results / model.identifier for model in models]
    trainers = [model.trainer for model in models]
    names = [
        trainer if trainers.count(trainer) == 1 else model.identifier
        for trainer, model in zip(trainers, models, strict=True)
    ]
    best = read_if_whole(step.best_model / BEST_MODEL)
    if len(best["models"]) > 1:
        folders.append(data.results / best["validation"])
        names.append(f"ensemble of {len(best['models'])}")
    write_tables(step.study, data.results, step.folder / "tables.md")
    options = ["--names", *names, "--images", step.relative(data.raw / "imagesTr"), "--title", f"Study on {data.name}"]
    options += ["--workers", str(step.processes), "-o", "report.html"]
    step.run("unetr_nnunet", "report", *map(step.relative, folders), *options)


STEPS: dict[str, Callable[[StudyStep, argparse.Namespace], None]] = {
    "data": _data,
    "plan": _plan,
    "preprocess": _preprocess,
    "train": _train,
    "probabilities": _probabilities,
    "candidates": _candidates,
    "best": _best,
    "test": _test,
    "report": _report,
}


def main() -> int:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--fold")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        STEPS[arguments.step](StudyStep(arguments.folder, arguments.threads), arguments)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
