"""Settings of a study's run: place, device, processors; written beside the study for its steps."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from unetr_nnunet.atomic import write_json
from unetr_nnunet.nnunet.json_file import read_json

FILE = "settings.json"
RETRIES = 1


@dataclass(frozen=True)
class Settings:
    """Settings of a study's run.

    Attributes:
        executor: "local" or "slurm".
        device: "cuda" or "cpu".
        gpus: GPUs of this machine.
        gpus_per_training: of one training.
        cores: processor cores of this machine, or of a step on a cluster.
        cores_per_training: of one training.
        jobs: jobs at once on a cluster.
        keep_probabilities: do not remove them after use.
        retries: how often a failed step is tried again.
        partition: of a cluster; its default if None.
        account: of a cluster; the user's default if None.
        longest_minutes: time limit of jobs on the partition; None for no limit.
        download: path of the data set's download; None where it is not needed.
        folders: nnU-Net's folders, by the names of their variables.
        python: the interpreter of the steps.
    """

    executor: str
    device: str
    gpus: int
    gpus_per_training: int
    cores: int
    cores_per_training: int
    jobs: int
    keep_probabilities: bool
    retries: int = RETRIES
    partition: str | None = None
    account: str | None = None
    longest_minutes: int | None = None
    download: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable

    @property
    def trainings_at_once(self) -> int:
        """Trainings side by side."""
        if self.executor == "slurm":
            return self.jobs
        if self.device == "cuda":
            return max(1, self.gpus // self.gpus_per_training)
        return max(1, self.cores // self.cores_per_training)


def write_settings(settings: Settings, folder: Path) -> None:
    """Write the settings into a study's folder."""
    write_json(asdict(settings), folder / FILE)


def read_settings(folder: Path) -> Settings:
    """Read the settings from a study's folder.

    Raises:
        ValueError: there is no study, or its settings are damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no study: name its folder with -o")
    return read_json(path, TypeAdapter(Settings), "remove it and start the study again: it continues")
