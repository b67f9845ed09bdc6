"""Read learning curves from nnU-Net's ``training_log_*.txt``, one set for each fold.

nnU-Net keeps the same figures in its checkpoints, but those need torch, and unpickling, to be read.
"""

import datetime
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+): (.*)$")
_FIGURES = {
    "train_loss": re.compile(r"train_loss (\S+)"),
    "val_loss": re.compile(r"val_loss (\S+)"),
    "pseudo_dice": re.compile(r"Pseudo dice \[(.*)\]"),
    "seconds": re.compile(r"Epoch time: (\S+) s"),
}
_NUMBER = re.compile(r"nan|-?\d+(?:\.\d+)?(?:e-?\d+)?")
_NUMPY_TYPE = re.compile(r"np\.float\d+")


@dataclass
class FoldLog:
    """The training log of one fold.

    Attributes:
        fold: name of the fold, such as "0" or "all".
        epochs: figures by epoch: ``train_loss``, ``val_loss``, ``pseudo_dice`` (mean over organs), ``seconds``.
        validated: cases of the final validation.
        validation_seconds: of the final validation, None where it is not finished.
    """

    fold: str
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    validated: int = 0
    validation_seconds: float | None = None

    def curve(self, figure: str) -> list[tuple[int, float]]:
        """Return (epoch, value) of a figure, in order, missing values left out."""
        pairs = ((epoch, figures.get(figure, math.nan)) for epoch, figures in sorted(self.epochs.items()))
        return [(epoch, value) for epoch, value in pairs if math.isfinite(value)]

    def training_hours(self) -> float:
        """Return the hours that the epochs took."""
        return sum(value for _, value in self.curve("seconds")) / 3600


def read_fold_logs(trainer_folder: Path) -> list[FoldLog]:
    """Read the logs of every fold of a trainer folder; folds without one are left out.

    A training that was resumed has several logs; where they overlap, the later one counts.
    """
    logs = []
    for folder in sorted(trainer_folder.glob("fold_*")):
        files = sorted(folder.glob("training_log_*.txt"))
        log = FoldLog(folder.name.removeprefix("fold_"))
        for file in files:
            _read(log, file.read_text(encoding="utf-8", errors="replace").splitlines())
        if log.epochs:
            logs.append(log)
    return logs


def _read(log: FoldLog, lines: Iterable[str]) -> None:
    epoch: int | None = None
    cases: list[datetime.datetime] = []
    for line in lines:
        stamped = _STAMP.match(line)
        if not stamped:
            continue
        message = stamped[2].strip()
        if number := re.fullmatch(r"Epoch (\d+)", message):
            epoch = int(number[1])
            log.epochs[epoch] = {}
        elif message.startswith("predicting "):
            cases.append(datetime.datetime.fromisoformat(stamped[1]))
        elif message == "Validation complete" and cases:
            log.validated = len(cases)
            log.validation_seconds = (datetime.datetime.fromisoformat(stamped[1]) - cases[0]).total_seconds()
            cases = []
        elif epoch is not None:
            log.epochs[epoch] |= _figures(message)


def _figures(message: str) -> Mapping[str, float]:
    for name, pattern in _FIGURES.items():
        match = pattern.match(message)
        if match:
            numbers = [float(number) for number in _NUMBER.findall(_NUMPY_TYPE.sub("", match[1]))]
            known = [number for number in numbers if not math.isnan(number)]
            return {name: fmean(known)} if known else {}
    return {}
