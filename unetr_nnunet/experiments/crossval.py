"""Run a study: Snakemake has the graph (``workflow/Snakefile``); here it is started, watched and stopped.

The engine is Snakemake (Mölder et al., "Sustainable data analysis with Snakemake", F1000Research 2021), on this machine
or, through its plugin, on Slurm. Every step leaves a mark; the same command continues where a study was stopped.
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from unetr_nnunet.experiments import slurm
from unetr_nnunet.experiments.failures import describe_failures
from unetr_nnunet.experiments.resources import case_count, case_voxels, labels
from unetr_nnunet.experiments.settings import Settings, write_settings
from unetr_nnunet.experiments.step_time import training_seconds
from unetr_nnunet.experiments.study import CHOICE, FILE, Study, write_choice, write_study
from unetr_nnunet.experiments.study_checks import check, forget_what_is_lost
from unetr_nnunet.experiments.study_plans import plans_if_made
from unetr_nnunet.experiments.study_status import Status, read_status
from unetr_nnunet.folder_lock import folder_lock
from unetr_nnunet.nnunet.folders import dataset_if_there
from unetr_nnunet.nnunet_hook.environment import FOLDERS, nnunet_variables

SNAKEFILE = Path(__file__).parent / "workflow" / "Snakefile"
POLL_S = 2.0
STATUS_S = 15.0
GRACE_S = 90.0
GIB = 2**30
_log = logging.getLogger(__name__)


class StudyFailedError(RuntimeError):
    """Steps have failed; the message names them, their errors and their logs."""


def set_environment(root: Path) -> None:
    """Set nnU-Net's variables for this process and its children, below ``root`` where they are not set."""
    os.environ.update(nnunet_variables(root))
    os.environ.update({name: str(Path(os.environ[name]).resolve()) for name in FOLDERS})  # steps run in another folder


def needed_gib(study: Study) -> float:
    """Return the disk that the probabilities of the ensembles' candidates take at most, in GiB."""
    candidates = min(study.candidates, len(study.models))
    share = len(study.folds) / 5
    per_case = case_voxels(study) * labels(study) * 2
    return candidates * case_count(study) * share * per_case / GIB if candidates > 1 else 0.0


def measure_trainings(study: Study, folder: Path, settings: Settings) -> dict[str, float]:
    """Return how many seconds trainings will take, by one step on this machine, for models whose logs do not tell yet.

    On a cluster another machine trains, and before the data set is planned there is no network: nothing is measured.
    """
    data = dataset_if_there(study.dataset)
    if settings.executor != "local" or data is None:
        return {}
    unknown = {t.model for t in read_status(study, folder, data.results).trainings if t.left_s is None}
    models = []
    for model in study.models:
        plans = plans_if_made(data.preprocessed / f"{model.plans}.json")
        if model in unknown and plans is not None and model.configuration in plans["configurations"]:
            models.append(model)
    return training_seconds(study, models, settings.device, settings.cores_per_training)


def status_of(study: Study, folder: Path) -> Status:
    """Return the progress of a study."""
    data = dataset_if_there(study.dataset)
    return read_status(study, folder, data.results if data else None)


def expectation(study: Study, folder: Path, settings: Settings, measured: Mapping[str, float]) -> list[str]:
    """Return what a study will take, in two lines; ``measured`` is the result of `measure_trainings`."""
    status = status_of(study, folder)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / GIB
    hours = status.left_hours(settings.trainings_at_once, measured)
    trainings = f"{len(study.models)} model(s) x {len(study.folds)} fold(s) = {len(status.trainings)} trainings"
    at_once = f"{settings.trainings_at_once} at once, on {settings.device}"
    took = f"about {hours:.1f} hours of training left" if hours is not None else "hours are known after the first epoch"
    took += " (by one step of each network; loading of data not counted)" if measured else ""
    disk = f"at most {needed_gib(study):.1f} GiB for probabilities, {free:.0f} GiB free"
    return [f"{trainings}, {at_once}; {took}", disk + ("" if settings.keep_probabilities else "; removed after use")]


def write_inputs(study: Study, settings: Settings, folder: Path) -> None:
    """Write what the workflow reads."""
    folder.mkdir(parents=True, exist_ok=True)
    write_study(study, folder / FILE)
    write_choice(study, folder / CHOICE)
    write_settings(settings, folder)


def dry_run(study: Study, settings: Settings, folder: Path) -> str:
    """Return Snakemake's list of the steps that would run; nothing is written in the study's folder."""
    with tempfile.TemporaryDirectory(prefix="study-") as temporary:
        copy = Path(temporary)
        for name in ("done", ".snakemake/incomplete"):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, copy / name)
        for name in (FILE, CHOICE, "candidates.json"):
            if (folder / name).is_file():
                shutil.copy2(folder / name, copy / name)
        if (folder / "probabilities").is_dir():
            (copy / "probabilities").symlink_to(folder / "probabilities")
        forget_what_is_lost(study, copy)
        write_inputs(study, settings, copy)
        command = [*_command(settings, copy), "--dry-run", "--quiet", "rules"]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"the steps cannot be listed: {done.stderr.strip() or done.stdout.strip()}")
    listed = re.search(r"^job +count\n.*?(?=\n\n|\Z)", done.stdout, re.MULTILINE | re.DOTALL)
    return listed[0] if listed else "nothing to be done"


def run_study(study: Study, settings: Settings, folder: Path) -> None:
    """Run a study to its end, or continue it.

    Args:
        study: the study.
        settings: how to run it.
        folder: the study's; receives marks, logs, the best model and the report.

    Raises:
        BlockingIOError: another study works in the folder, or trains models of the data set.
        ValueError: something is wrong from the start, see `check`.
        StudyFailedError: steps have failed; all others have been done.
        KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, after what ran has saved its state.
    """
    with contextlib.ExitStack() as held:
        descriptors = [held.enter_context(folder_lock(folder))]
        results = Path(os.environ["nnUNet_results"]) / f".study_{study.dataset:03d}"
        descriptors.append(held.enter_context(folder_lock(results)))
        check(study, settings, folder)
        forget_what_is_lost(study, folder)
        write_inputs(study, settings, folder)
        for name in FOLDERS:
            Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
        if settings.executor == "slurm":
            slurm.cancel_jobs_of(folder)
        numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, _interrupt) for number in numbers}  # nohup ignores SIGHUP
        try:
            _watch(study, settings, folder, sum(descriptors, ()))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _command(settings: Settings, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(folder)]
    command += ["--nolock", "--rerun-incomplete", "--keep-going", "--rerun-triggers", "mtime"]
    command += ["--notemp"] if settings.keep_probabilities else []
    if settings.executor == "slurm":
        return [*command, *slurm.options(folder, settings.partition, settings.account), "--jobs", str(settings.jobs)]
    return [*command, "--cores", str(settings.cores), "--resources", f"gpu={settings.gpus}"]


def _environment() -> dict[str, str]:
    """Return the environment in which a step finds its interpreter's commands, also on another machine."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def _watch(study: Study, settings: Settings, folder: Path, descriptors: tuple[int, ...]) -> None:
    log = folder / "logs" / "snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            _command(settings, folder),
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(),
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the trainings in order
            pass_fds=descriptors,  # the locks last as long as the workflow, should this process be killed
        )
    try:
        last = ""
        while process.poll() is None:
            last = _report_progress(status_of(study, folder), settings, last)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STATUS_S)
    except BaseException:
        _end(process, settings)
        with contextlib.suppress(OSError):  # the terminal may be gone
            _log.info("\nstopped: what ran has saved its state; the same command continues")
        raise
    _report_progress(status_of(study, folder), settings, last)
    if process.returncode:
        raise StudyFailedError(describe_failures(folder))


def _report_progress(status: Status, settings: Settings, last: str) -> str:
    """Report the progress, on a terminal in one line that is overwritten; return the report."""
    hours = status.left_hours(settings.trainings_at_once)
    running = [training for training in status.trainings if training.epochs and not training.done]
    progress = f"{status.done} of {status.total} steps done"
    progress += f", {len(running)} trainings begun" if running else ""
    if sys.stderr.isatty():
        left = f", about {hours:.1f} h of training left" if hours else ""
        epochs = "".join(f", {t.epochs}/{t.planned_epochs or '?'} epochs" for t in running[:2])
        sys.stderr.write(f"\r{progress}{epochs}{left}   ")
        sys.stderr.flush()
    elif progress != last:
        _log.info(progress + (f", about {hours:.2f} h of training left" if hours else ""))
    return progress


def _end(process: "subprocess.Popen[bytes]", settings: Settings) -> None:
    """Let the workflow's jobs save their state and end; on a cluster cancel them."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    if settings.executor == "slurm":
        process.send_signal(signal.SIGINT)
    else:
        process.terminate()  # it starts nothing more, and waits for what runs
        time.sleep(POLL_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for number, handler in before.items():
        signal.signal(number, handler)


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt
