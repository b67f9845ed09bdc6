"""Run a whole study: plan, preprocess, train every fold, ensemble, predict the test set, report.

It can be stopped at any time; the same command continues it. STUDY is a study file, or the name of one that comes with
this package: btcv, openkbp, openkbp_parts, openkbp_gpu, phantom, demo.

example:
  unetr_nnunet crossval -d 17 -tr nnUNetTrainerUNETR nnUNetTrainerUNETR_Modified nnUNetTrainer --folds 0 1 2 3 4
  unetr_nnunet crossval btcv --download RawData.zip -o btcv_study --dry-run
  unetr_nnunet crossval btcv --download RawData.zip -o btcv_study --executor slurm --jobs 8
  unetr_nnunet crossval -o btcv_study --status

FOLDER receives report.html, tables.md, best_model/ and best_model.zip (for `unetr_nnunet predict -m`), predictions/ of
the test set, logs/. nnU-Net's own folders are those of its environment variables, or lie below ./nnUNet_data.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from unetr_nnunet.trainers.names import BASE_NAME, OPEN_NAME

if TYPE_CHECKING:
    from unetr_nnunet.experiments.settings import Settings
    from unetr_nnunet.experiments.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "study", type=Path, nargs="?", metavar="STUDY", help="file or name of a study, instead of -d -tr"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("study"), metavar="FOLDER", help="of the study (default: study)"
    )
    parser.add_argument(
        "--download",
        type=Path,
        metavar="SOURCE",
        help="zip, folder or clone of the data set, for a study that converts it",
    )
    models = parser.add_argument_group("models, unless a STUDY names them")
    models.add_argument("-d", "--dataset", type=int, metavar="ID", help="number of the data set")
    models.add_argument("-tr", "--trainers", nargs="+", metavar="TRAINER", help="trainer names, ours or nnU-Net's")
    models.add_argument("-c", "--configuration", help="(default: 3d_fullres)")
    models.add_argument("-p", "--plans", help="(default: nnUNetPlans)")
    models.add_argument("--folds", type=int, nargs="+", metavar="FOLD", help="(default: 0 1 2 3 4)")
    models.add_argument("--seeds", type=int, nargs="+", metavar="N", help="train each of our trainers with each seed")
    run = parser.add_argument_group("where and how")
    run.add_argument("--executor", choices=("local", "slurm"), default="local", help="(default: local)")
    run.add_argument("--jobs", type=int, default=20, metavar="N", help="jobs at once on a cluster (default: 20)")
    run.add_argument("--partition", help="of the cluster (default: the cluster's)")
    run.add_argument("--account", help="account to charge on the cluster (default: yours)")
    run.add_argument("--device", choices=("cuda", "cpu"), help="(default: cuda if available, and on a cluster)")
    run.add_argument(
        "--gpus-per-training", type=int, default=1, metavar="N", help="share each training among N GPUs (default: 1)"
    )
    run.add_argument(
        "--cores", type=int, metavar="N", help="processor cores to use (default: all; 8 for a step on a cluster)"
    )
    run.add_argument("--keep-probabilities", action="store_true", help="keep the probabilities after ensembling")
    run.add_argument("--dry-run", action="store_true", help="check everything, list the steps and estimate time")
    run.add_argument("--status", action="store_true", help="show the progress of the study in FOLDER")


def run(arguments: argparse.Namespace) -> int:
    """Run a study, show its progress, or estimate what it takes."""
    from unetr_nnunet.experiments import crossval
    from unetr_nnunet.experiments.settings import read_settings
    from unetr_nnunet.experiments.study import FILE, read_study
    from unetr_nnunet.experiments.study_checks import check

    crossval.set_environment(Path("nnUNet_data"))
    folder = arguments.output.resolve()
    if arguments.status:
        settings = read_settings(folder)
        os.environ.update(settings.folders)
        status = crossval.status_of(read_study(folder / FILE), folder)
        print("\n".join(status.lines(settings.trainings_at_once)))
        return 0
    study = _study(arguments)
    settings = _settings(arguments, study)
    if arguments.dry_run:
        check(study, settings, folder)
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


def _study(arguments: argparse.Namespace) -> "Study":
    from unetr_nnunet.experiments import study as studies
    from unetr_nnunet.nnunet.plans_file import DEFAULT_PLANS

    if arguments.study is None:
        if arguments.dataset is None or not arguments.trainers:
            raise ValueError("nothing to run: name a STUDY, or a data set and trainers with -d and -tr")
        trainers = studies.with_seeds(arguments.trainers, arguments.seeds or ())
        if arguments.seeds and trainers == arguments.trainers:
            raise ValueError(
                f"--seeds: only our trainers ({BASE_NAME}..., {OPEN_NAME}_...) have seeds, and none is named"
            )
        plans = arguments.plans or DEFAULT_PLANS
        configuration = arguments.configuration or studies.DEFAULT_CONFIGURATION
        models = tuple(studies.Model(trainer, plans, configuration) for trainer in trainers)
        return studies.Study(arguments.dataset, models, tuple(arguments.folds or studies.FIVE_FOLDS))
    given = (arguments.trainers, arguments.dataset, arguments.folds, arguments.seeds)
    if any(option is not None for option in (*given, arguments.configuration, arguments.plans)):
        raise ValueError(f"{arguments.study} names its own models: leave out -d, -tr, -c, -p, --folds and --seeds")
    return _study_of_file(arguments)


def _study_of_file(arguments: argparse.Namespace) -> "Study":
    from unetr_nnunet.experiments.steps import DOWNLOAD
    from unetr_nnunet.experiments.study_file import find_study, read_study_file
    from unetr_nnunet.nnunet.folders import dataset_if_there

    study = read_study_file(find_study(arguments.study))
    converts = any(DOWNLOAD in word for command in study.data for word in command)
    if converts and arguments.download is None and dataset_if_there(study.dataset) is None:
        raise ValueError(f"{arguments.study} converts a download: give it with --download")
    if arguments.download is not None and not arguments.download.exists():
        raise FileNotFoundError(f"--download {arguments.download}: there is no such file or folder")
    return study


def _settings(arguments: argparse.Namespace, study: "Study") -> "Settings":
    from unetr_nnunet.experiments import slurm
    from unetr_nnunet.experiments.resources import retries
    from unetr_nnunet.experiments.settings import Settings
    from unetr_nnunet.nnunet_hook.environment import FOLDERS

    if min(arguments.gpus_per_training, arguments.jobs, arguments.cores or 1) < 1:
        raise ValueError("--gpus-per-training, --jobs and --cores must be at least 1")
    local = arguments.executor == "local"
    if local and (arguments.partition or arguments.account):
        raise ValueError("--partition and --account are for a cluster: add --executor slurm")
    gpus = _gpus() if local and arguments.device != "cpu" else 0
    device = arguments.device or ("cuda" if gpus or not local else "cpu")
    if local and device == "cuda" and gpus < arguments.gpus_per_training:
        raise ValueError(f"{arguments.gpus_per_training} GPU(s) wanted, {gpus} here (see `unetr_nnunet doctor`)")
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
