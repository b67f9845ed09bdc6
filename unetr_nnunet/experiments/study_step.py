"""One step of a study, as the workflow runs it: ``python -m unetr_nnunet.experiments.study_step STEP FOLDER ...``.

A step runs the stock nnU-Net commands and our own, says which, and can be repeated after a kill at any moment.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.experiments.gpu_slots import locks_folder, take_gpus, visible_gpus
from unetr_nnunet.experiments.requests import EXPORTS
from unetr_nnunet.experiments.steps import program
from unetr_nnunet.experiments.study import FILE, Study, read_json
from unetr_nnunet.experiments.study_plans import complete_plans, planning_commands, read_json_file, write_json_file
from unetr_nnunet.inference.model_set import FILE as BEST_MODEL

SETTINGS = "settings.json"
DOWNLOAD = "{download}"
"""Stands for the path of the download in a study's `data`."""
MOST_PROCESSES = 8
"""nnU-Net's own default."""


class StudyStep:
    """What a step needs to know.

    Args:
        folder: the study's.
        threads: processor cores that the step may use.

    Attributes:
        study: what is to be done.
        device: "cpu" or "cuda".
        gpus: GPUs of one training.
        dataset: the data set's full name.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.folder, self.threads = folder.resolve(), threads
        self.study: Study = read_json(self.folder / FILE)
        settings = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
        self.device: str = settings["device"]
        self.gpus: int = settings["gpus_per_training"]
        self.local: bool = settings["executor"] == "local"
        self.download: str | None = settings["download"]
        self.processes = min(threads, MOST_PROCESSES)
        self.environment = {
            **os.environ,
            "nnUNet_def_n_proc": str(self.processes),
            "nnUNet_n_proc_DA": str(max(1, threads - 1) if self.device == "cuda" else 1),
            **({"OMP_NUM_THREADS": str(threads)} if self.device == "cpu" else {}),
        }

    @property
    def dataset(self) -> str:
        """Full name of the data set."""
        return dataset_name(self.study.dataset)

    @property
    def raw(self) -> Path:
        """The data set's folder in ``nnUNet_raw``."""
        return Path(os.environ["nnUNet_raw"]) / self.dataset

    @property
    def preprocessed(self) -> Path:
        """The data set's folder in ``nnUNet_preprocessed``."""
        return Path(os.environ["nnUNet_preprocessed"]) / self.dataset

    @property
    def results(self) -> Path:
        """The data set's folder in ``nnUNet_results``."""
        return Path(os.environ["nnUNet_results"]) / self.dataset

    def relative(self, path: Path) -> str:
        """Return a path as seen from the study's folder: what a page shows of it stays true where both are moved."""
        return os.path.relpath(path, self.folder)

    def take_gpus(self, count: int = 1) -> None:
        """Wait for GPUs that no other step on this machine has; on a cluster the job has its own."""
        if self.device == "cuda" and self.local:
            mine = take_gpus(locks_folder(), count, visible_gpus())
            self.environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)

    def run(self, *command: str) -> None:
        """Say a command, and run it; its failure is the step's."""
        sys.stdout.write(f"$ {shlex.join(command)}\n")
        sys.stdout.flush()
        words = program(*command)
        code = subprocess.run(words, env=self.environment, cwd=self.folder, check=False).returncode
        if code:
            raise RuntimeError(f"{command[0]} ended with exit code {code}")


def dataset_name(number: int) -> str:
    """Return the full name of a data set, such as ``Dataset017_BTCV``.

    Raises:
        FileNotFoundError: there is none of this number in ``nnUNet_raw``.
        ValueError: there are several.
    """
    raw = Path(os.environ["nnUNet_raw"])
    names = sorted(path.parent.name for path in raw.glob(f"Dataset{number:03d}_*/dataset.json"))
    if not names:
        raise FileNotFoundError(f"{raw} (nnUNet_raw) has no data set {number}: convert it (`unetr_nnunet convert`)")
    if len(names) > 1:
        raise ValueError(f"the number {number} stands for {' and '.join(names)} in {raw}: rename one of them")
    return names[0]


def _data(step: StudyStep, arguments: argparse.Namespace) -> None:
    try:
        name = step.dataset
    except FileNotFoundError:
        for words in step.study.data:
            step.run("unetr_nnunet", *(word.replace(DOWNLOAD, step.download or DOWNLOAD) for word in words))
    else:
        sys.stdout.write(f"{name} is there\n")


def _plan(step: StudyStep, arguments: argparse.Namespace) -> None:
    for command in planning_commands(step.study, step.preprocessed, step.processes):
        step.run(*command)
    complete_plans(step.study, step.preprocessed, step.folder)
    splits = step.preprocessed / "splits_final.json"
    if read_json_file(splits) is None:  # folds that start together would both write it
        own = read_json_file(step.raw / "splits_final.json")
        write_json_file(own or _nnunet_splits(step.raw), splits)
    there = len(json.loads(splits.read_text(encoding="utf-8")))
    beyond = [fold for fold in step.study.folds if fold >= there]
    if beyond:  # nnU-Net would draw a random split for such a fold
        raise ValueError(f"{splits} has {there} fold(s), no fold {beyond[0]}: name some of 0 to {there - 1}")


def _nnunet_splits(raw: Path) -> list[dict[str, list[str]]]:
    from nnunetv2.utilities.crossval_split import generate_crossval_split
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    return generate_crossval_split(sorted(get_filenames_of_train_images_and_targets(str(raw))), seed=12345, n_splits=5)


def _preprocess(step: StudyStep, arguments: argparse.Namespace) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    seen = set()
    for model in step.study.models:
        plans = PlansManager(str(step.preprocessed / f"{model.plans}.json"))
        if model.configuration not in plans.available_configurations:
            there = ", ".join(plans.available_configurations)
            raise ValueError(f"plans {model.plans} have no configuration {model.configuration}; they have {there}")
        configuration = plans.get_configuration(model.configuration)
        if configuration.previous_stage_name:
            raise ValueError(
                f"{model.configuration} of {model.plans} builds on predictions of {configuration.previous_stage_name}, "
                "which a study does not make: name another configuration"
            )
        data = configuration.data_identifier
        if data not in seen:  # plans that share their data are preprocessed once
            seen.add(data)
            words = ("-d", str(step.study.dataset), "-plans_name", model.plans, "-c", model.configuration)
            step.run("nnUNetv2_preprocess", *words, "-np", str(step.processes))


def _train(step: StudyStep, arguments: argparse.Namespace) -> None:
    model, fold = step.study.model(arguments.model), arguments.fold
    output = step.results / model.identifier / f"fold_{fold}"
    if (output / "checkpoint_final.pth").is_file() and read_json_file(output / "validation" / "summary.json"):
        sys.stdout.write(f"{output} is trained and validated\n")
        return
    for checkpoint in output.glob("checkpoint_*.pth"):
        if not zipfile.is_zipfile(checkpoint):
            sys.stdout.write(f"{checkpoint} is torn (killed while it was written): removed\n")
            checkpoint.unlink()
    step.environment["nnUNet_def_n_proc"] = str(min(step.threads, EXPORTS))
    words = ["nnUNetv2_train", str(step.study.dataset), model.configuration, str(fold), "-tr", model.trainer]
    words += ["-p", model.plans, "-device", step.device, "--c"]
    if step.device == "cuda":
        words += ["-num_gpus", str(step.gpus)] if step.gpus > 1 else []
        step.take_gpus(step.gpus)
    elif step.threads == 1:
        step.environment["nnUNet_n_proc_DA"] = "0"  # a process for augmentation would only get in the way
    sys.stdout.write(f"$ {shlex.join(words)}\n")
    sys.stdout.flush()
    command = program(*words)
    os.execve(command[0], command, step.environment)  # so that a signal to the step is one to the training


def _probabilities(step: StudyStep, arguments: argparse.Namespace) -> None:
    """Write float16 probabilities of a fold's validation cases, on their original grids."""
    model, fold = step.study.model(arguments.model), arguments.fold
    output = step.folder / "probabilities" / model.identifier / f"fold_{fold}"
    cases = json.loads((step.preprocessed / "splits_final.json").read_text(encoding="utf-8"))[int(fold)]["val"]
    images = output.with_name(f"{output.name}_images")
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    for case in cases:
        for channel in sorted((step.raw / "imagesTr").glob(f"{case}_????.*")):
            (images / channel.name).symlink_to(channel)
    words = ("-m", str(step.results / model.identifier), "-f", fold, "-i", str(images), "-o", str(output))
    step.take_gpus()
    step.run("unetr_nnunet", "predict", *words, "--exact", "--save-probabilities", "--device", step.device)
    shutil.rmtree(images)


def _candidates(step: StudyStep, arguments: argparse.Namespace) -> None:
    """Write the best models, best first: those that ensembles are made of."""
    from unetr_nnunet.experiments.best_model import rank_models

    ranked = rank_models(step.study, step.results)
    chosen = [identifier for identifier, _ in ranked][: step.study.candidates]
    write_json_file(chosen, step.folder / "candidates.json")


def _best(step: StudyStep, arguments: argparse.Namespace) -> None:
    from unetr_nnunet.experiments.best_model import choose_best
    from unetr_nnunet.experiments.model_bundle import write_bundle

    workers = min(step.threads, EXPORTS)
    best = choose_best(step.study, step.folder, step.results, step.preprocessed, workers)
    write_bundle(best, step.results, step.folder / "best_model" / step.dataset)


def _test(step: StudyStep, arguments: argparse.Namespace) -> None:
    """Predict the data set's test images, if it has any, and score them, if their labels are there."""
    images, labels = step.raw / "imagesTs", step.raw / "labelsTs"
    if not images.is_dir() or not any(images.iterdir()):
        sys.stdout.write(f"{step.dataset} has no test images\n")
        return
    model = step.folder / "best_model" / step.dataset
    _forget_other_predictions(step.folder / "predictions", (model / BEST_MODEL).read_text(encoding="utf-8"))
    words = ("-m", str(model), "-i", str(images))
    step.take_gpus()
    step.run("unetr_nnunet", "predict", *words, "-o", "predictions", "--device", step.device, "--resume")
    if labels.is_dir() and any(labels.iterdir()):
        scored = ("predictions", "--labels", str(labels), "--images", str(images), "-o", "test_report.html")
        step.run("unetr_nnunet", "report", *scored, "--names", "best model", "--title", f"Test set of {step.dataset}")


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

    models = step.study.models
    folders = [step.results / model.identifier for model in models]
    trainers = [model.trainer for model in models]
    names = [
        trainer if trainers.count(trainer) == 1 else model.identifier
        for trainer, model in zip(trainers, models, strict=True)
    ]
    best = read_json_file(step.folder / "best_model" / step.dataset / BEST_MODEL)
    if len(best["models"]) > 1:
        folders.append(step.results / best["validation"])
        names.append(f"ensemble of {len(best['models'])}")
    write_tables(step.study, step.results, step.folder / "tables.md")
    words = ["--names", *names, "--images", step.relative(step.raw / "imagesTr"), "--title", f"Study on {step.dataset}"]
    words += ["--workers", str(step.processes), "-o", "report.html"]
    step.run("unetr_nnunet", "report", *map(step.relative, folders), *words)


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
    try:
        STEPS[arguments.step](StudyStep(arguments.folder, arguments.threads), arguments)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
