"""A whole study: plan, preprocess, train every fold, ensemble, predict the test set, report; stop it, it goes on.

example:
  unetr_nnunet crossval -d 17 -tr nnUNetTrainerUNETR nnUNetTrainerUNETR_Modified nnUNetTrainer --folds 0 1 2 3 4
  unetr_nnunet crossval studies/btcv.toml --download RawData.zip -o btcv_study --dry-run
  unetr_nnunet crossval studies/btcv.toml --download RawData.zip -o btcv_study --executor slurm --jobs 8
  unetr_nnunet crossval -o btcv_study --status

FOLDER receives report.html, tables.md, best_model/ and best_model.zip (for `unetr_nnunet predict -m`), predictions/ of
the test set, logs/. nnU-Net's own folders are those of its variables, else below ./nnUNet_data.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unetr_nnunet.experiments.crossval import Settings
    from unetr_nnunet.experiments.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("study", type=Path, nargs="?", metavar="STUDY.toml", help="a study as data, instead of -d -tr")
    parser.add_argument("-o", "--output", type=Path, default=Path("study"), metavar="FOLDER", help="(study)")
    parser.add_argument("--download", type=Path, metavar="FILE", help="the data set's download, if a study converts it")
    models = parser.add_argument_group("models, where no STUDY.toml names them")
    models.add_argument("-d", "--dataset", type=int, metavar="ID", help="number of the data set")
    models.add_argument("-tr", "--trainers", nargs="+", metavar="TRAINER", help="trainer names, nnU-Net's own too")
    models.add_argument("-c", "--configuration", help="(3d_fullres)")
    models.add_argument("-p", "--plans", help="(nnUNetPlans)")
    models.add_argument("--folds", type=int, nargs="+", metavar="FOLD", help="(0 1 2 3 4)")
    models.add_argument("--seeds", type=int, nargs="+", metavar="N", help="each of our trainers with each")
    run = parser.add_argument_group("where and how")
    run.add_argument("--executor", choices=("local", "slurm"), default="local", help="(local)")
    run.add_argument("--jobs", type=int, default=20, metavar="N", help="jobs at once on a cluster (20)")
    run.add_argument("--partition", help="of the cluster (its default)")
    run.add_argument("--account", help="that the cluster charges (your default)")
    run.add_argument("--device", choices=("cuda", "cpu"), help="(cuda where there is one, and on a cluster)")
    run.add_argument("--gpus-per-training", type=int, default=1, metavar="N", help="one big training on several (1)")
    run.add_argument("--cores", type=int, metavar="N", help="processor cores to use (all; 8 for a step on a cluster)")
    run.add_argument("--keep-probabilities", action="store_true", help="do not remove them after ensembling")
    run.add_argument("--dry-run", action="store_true", help="say what would run and what it takes")
    run.add_argument("--status", action="store_true", help="say how far the study in FOLDER is")


def run(arguments: argparse.Namespace) -> int:
    """Run a study, or tell of one."""
    from unetr_nnunet.experiments import crossval
    from unetr_nnunet.experiments.study_start import check, results_folder
    from unetr_nnunet.experiments.study_status import read_status

    crossval.set_environment(Path("nnUNet_data"))
    folder = arguments.output.resolve()
    if arguments.status:
        study, settings = _begun(folder)
        os.environ.update(settings.folders)
        status = read_status(study, folder, results_folder(study))
        print("\n".join(status.lines(settings.trainings_at_once)))
        return 0
    study = _study(arguments)
    settings = _settings(arguments, study)
    if arguments.dry_run:
        check(study, folder)
    measured = crossval.measure_trainings(study, folder, settings) if arguments.dry_run else {}
    print("\n".join(crossval.expectation(study, folder, settings, measured)), flush=True)
    if arguments.dry_run:
        print(crossval.dry_run(study, settings, folder))
        return 0
    crossval.run_study(study, settings, folder)
    print(f"\nreport, for a browser: {folder / 'report.html'}")
    print(f"tables: {folder / 'tables.md'}")
    print(f"model, for `unetr_nnunet predict -m`: {folder / 'best_model.zip'}")
    return 0


def _begun(folder: Path) -> "tuple[Study, Settings]":
    import json

    from unetr_nnunet.experiments.crossval import Settings
    from unetr_nnunet.experiments.study import FILE, read_json
    from unetr_nnunet.experiments.study_step import SETTINGS

    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{folder} holds no study: name its folder with -o")
    return read_json(folder / FILE), Settings(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))


def _study(arguments: argparse.Namespace) -> "Study":
    from unetr_nnunet.experiments.study import (
        DEFAULT_CONFIGURATION,
        DEFAULT_PLANS,
        OUR_TRAINER,
        Model,
        Study,
        read_study,
        with_seeds,
    )

    if arguments.study is None:
        if arguments.dataset is None or not arguments.trainers:
            raise ValueError("no study: name a STUDY.toml, or a data set and trainers with -d and -tr")
        trainers = with_seeds(arguments.trainers, arguments.seeds or ())
        if arguments.seeds and trainers == arguments.trainers:
            raise ValueError(f"--seeds: only our trainers ({OUR_TRAINER}...) have seeds, and none is named")
        plans, configuration = arguments.plans or DEFAULT_PLANS, arguments.configuration or DEFAULT_CONFIGURATION
        models = tuple(Model(trainer, plans, configuration) for trainer in trainers)
        return Study(arguments.dataset, models, tuple(arguments.folds or (0, 1, 2, 3, 4)))
    given = (arguments.trainers, arguments.dataset, arguments.folds, arguments.seeds)
    if any(each is not None for each in (*given, arguments.configuration, arguments.plans)):
        raise ValueError(f"{arguments.study} says what is trained: leave out -d, -tr, -c, -p, --folds and --seeds")
    from unetr_nnunet.experiments.study_step import DOWNLOAD

    study = read_study(arguments.study)
    wants = any(DOWNLOAD in word for words in study.data for word in words)
    if wants and arguments.download is None and not _is_there(study.dataset):
        raise ValueError(f"{arguments.study} converts a download: name it with --download")
    if arguments.download is not None and not arguments.download.exists():
        raise FileNotFoundError(f"--download {arguments.download}: there is no such file or folder")
    return study


def _is_there(dataset: int) -> bool:
    return any(Path(os.environ["nnUNet_raw"]).glob(f"Dataset{dataset:03d}_*/dataset.json"))


def _settings(arguments: argparse.Namespace, study: "Study") -> "Settings":
    from unetr_nnunet.experiments import slurm
    from unetr_nnunet.experiments.crossval import Settings, retries
    from unetr_nnunet.nnunet_hook.environment import FOLDERS

    if min(arguments.gpus_per_training, arguments.jobs, arguments.cores or 1) < 1:
        raise ValueError("--gpus-per-training, --jobs and --cores are 1 at least")
    local = arguments.executor == "local"
    if local and (arguments.partition or arguments.account):
        raise ValueError("--partition and --account are a cluster's: add --executor slurm")
    gpus = _gpus() if local and arguments.device != "cpu" else 0
    device = arguments.device or ("cuda" if gpus or not local else "cpu")
    if local and device == "cuda" and gpus < arguments.gpus_per_training:
        raise ValueError(f"{arguments.gpus_per_training} GPU(s) wanted, {gpus} here (`unetr_nnunet doctor` tells more)")
    if device == "cpu" and arguments.gpus_per_training > 1:
        raise ValueError(f"--gpus-per-training {arguments.gpus_per_training}: there is no GPU to train on")
    cores = arguments.cores or (len(os.sched_getaffinity(0)) if local else 8)
    shared = max(1, cores * arguments.gpus_per_training // gpus) if gpus else cores
    longest_minutes = None if local else slurm.longest_minutes(arguments.partition)
    return Settings(
        executor=arguments.executor,
        device=device,
        gpus=gpus,
        gpus_per_training=arguments.gpus_per_training,
        cores=cores,
        cores_per_training=min(cores, study.cores or shared) if device == "cpu" else shared,
        jobs=arguments.jobs,
        keep_probabilities=arguments.keep_probabilities,
        partition=arguments.partition,
        account=arguments.account,
        longest_minutes=longest_minutes,
        folders={name: os.environ[name] for name in FOLDERS},
        download=str(arguments.download.resolve()) if arguments.download else None,
        retries=retries(longest_minutes),
    )


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
