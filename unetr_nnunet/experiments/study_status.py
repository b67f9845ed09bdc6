"""Progress of a study, from its marks and nnU-Net's training logs, wherever it runs."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from unetr_nnunet.experiments.study import Model, Study
from unetr_nnunet.nnunet.training_log import FoldLog, read_fold_logs

AFTERWARDS = ("candidates", "best", "test", "report")
BEFORE = ("data", "plan", "preprocess")


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Attributes:
        model: what is trained.
        fold: on which fold.
        done: trained and validated.
        epochs: epochs that its log has finished.
        planned_epochs: epochs it will have; None where no log tells.
        epoch_seconds: of one epoch; None where no log of this model tells.
    """

    model: Model
    fold: int
    done: bool
    epochs: int
    planned_epochs: int | None
    epoch_seconds: float | None

    @property
    def left_s(self) -> float | None:
        """Seconds of training left; None if unknown."""
        if self.done:
            return 0.0
        if self.epoch_seconds is None or self.planned_epochs is None:
            return None
        return max(0, self.planned_epochs - self.epochs) * self.epoch_seconds


@dataclass(frozen=True)
class Status:
    """A study's state.

    Attributes:
        steps: name and whether it is done, of the steps around the trainings.
        trainings: all of them.
    """

    steps: tuple[tuple[str, bool], ...]
    trainings: tuple[Training, ...]

    @property
    def done(self) -> int:
        """Steps that are done."""
        return sum(done for _, done in self.steps) + sum(training.done for training in self.trainings)

    @property
    def total(self) -> int:
        """All steps."""
        return len(self.steps) + len(self.trainings)

    def left_hours(self, at_once: int, measured: Mapping[str, float] | None = None) -> float | None:
        """Return the hours of training that are left; None if unknown.

        Args:
            at_once: trainings side by side.
            measured: seconds of a whole training by model, for those whose logs do not tell.
        """
        left = [
            (measured or {}).get(training.model.identifier) if training.left_s is None else training.left_s
            for training in self.trainings
        ]
        known = [seconds for seconds in left if seconds is not None]
        if not known:
            return None
        whole = [t.planned_epochs * t.epoch_seconds for t in self.trainings if t.planned_epochs and t.epoch_seconds]
        whole += (measured or {}).values()
        all_left = [*known, *[median(whole) if whole else 0.0] * (len(left) - len(known))]
        return max(*all_left, sum(all_left) / at_once) / 3600  # the longest cannot be divided

    def lines(self, at_once: int) -> list[str]:
        """Describe the state: what is done, which trainings run or wait, and how long it will take."""
        lines = [f"{self.done} of {self.total} steps are done"]
        waiting = 0
        for training in self.trainings:
            if training.epochs and not training.done:
                of = f" of {training.planned_epochs}" if training.planned_epochs else ""
                lines.append(f"  {training.model.identifier} fold {training.fold}: {training.epochs}{of} epochs")
            waiting += not training.epochs and not training.done
        lines += [f"  {waiting} trainings have not begun"] if waiting else []
        lines += [f"  {name}: not done" for name, done in self.steps if not done]
        hours = self.left_hours(at_once)
        if hours:
            lines.append(f"about {hours:.1f} hours of training left, {at_once} at once")
        return lines


def read_status(study: Study, folder: Path, results: Path | None) -> Status:
    """Read a study's state.

    Args:
        study: the study.
        folder: the study's.
        results: the data set's folder in ``nnUNet_results``; None until it exists.
    """
    marks = folder / "done"
    steps = [(name, (marks / name).is_file()) for name in BEFORE]
    steps += [
        (name, (folder / "candidates.json" if name == "candidates" else marks / name).is_file()) for name in AFTERWARDS
    ]
    trainings = []
    for model in study.models:
        trained = results / model.identifier if results else Path(os.devnull)
        logs = {log.fold: log for log in read_fold_logs(trained)}
        seconds = [value for log in logs.values() for _, value in log.curve("seconds")]
        planned = next((epochs for fold in study.folds if (epochs := _planned(trained, fold, model))), None)
        for fold in study.folds:
            done = (marks / "train" / model.identifier / f"fold_{fold}").is_file()
            epochs = len(logs.get(str(fold), FoldLog("")).curve("seconds"))
            trainings.append(Training(model, fold, done, epochs, planned, median(seconds) if seconds else None))
    return Status(tuple(steps), tuple(trainings))


def _planned(trained: Path, fold: int, model: Model) -> int | None:
    """Return a training's number of epochs: from its trainer's name, else as nnU-Net's ``debug.json`` has it."""
    named = re.search(r"_(\d+)epochs?(_|$)", model.trainer)
    if named:
        return int(named[1])
    debug = trained / f"fold_{fold}" / "debug.json"
    noted = re.search(r'"num_epochs": "?(\d+)', debug.read_text(encoding="utf-8")) if debug.is_file() else None
    return int(noted[1]) if noted else None
