"""Everything that a GPU changes, tried in about ten minutes, most important first: one table, `docs/how-to/gpu.md`.

Each stage is a process with a time limit. Its results are in ``gpu.jsonl`` and ``gpu.md`` as soon as they are measured,
so that a run that is cut off leaves what it had; ``gpu.log`` has what the stages printed. The exit code is 1 where a
stage failed or a bound was missed.

    make gpu                                            or, without this project's environment: PYTHON=python3 make gpu
    python -m benchmarks.gpu --device cpu --tiny        tries the script itself, in minutes; its figures mean nothing
"""

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_stage import ROOT, Result, append, read, stop

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Plan:
    """A stage as it is run.

    Attributes:
        name: of the module ``benchmarks.gpu_<name>``.
        title: heading of its table.
        seconds: time limit; what the stages before have left is added.
    """

    name: str
    title: str
    seconds: float

    def command(self, settings: "Settings", results: Path, seconds: float) -> list[str]:
        """Return the command of the stage's process, which will be stopped so many seconds from now."""
        words = ["--name", self.name, "--device", settings.device, "--work", str(settings.work)]
        words += [
            "--results",
            str(results),
            "--ends",
            str(time.monotonic() + seconds),
            *(["--tiny"] if settings.tiny else []),
        ]
        return [sys.executable, "-m", f"benchmarks.gpu_{self.name}", *words]


@dataclass(frozen=True)
class Settings:
    """What all stages are told.

    Attributes:
        device: "cuda" or "cpu".
        tiny: whether only the script itself is tried.
        work: folder for all files.
    """

    device: str
    tiny: bool
    work: Path

    @property
    def factor(self) -> float:
        """Return by how much limits are longer: a machine that tries the script may be slow and busy."""
        return 4.0 if self.tiny else 1.0


DATA = Plan("data", "Data", 150)
"""Made while the tests run, which measure no time; what it takes longer is lost to the steps."""
STAGES = (
    Plan("tests", "Tests that need a GPU", 60),
    Plan("steps", "A training step", 180),
    Plan("train", "nnUNetv2_train, killed and continued", 100),
    Plan("predict", "Prediction of a whole CT", 200),
    Plan("memory", "Prediction with too little memory", 45),
)
TOTAL_SECONDS = 600
STUDY_PLAN = Plan("study", "Accuracy study", 0)
"""It has what the others leave of the total, and ends by itself."""
STUDY_ENDS_S = 60
"""Time in which the study's stage must have ended by itself; then it is stopped."""


class Run:
    """A run of stages, and its table.

    Args:
        output: folder for table, results and log.
        heading: first lines of the table.
    """

    def __init__(self, output: Path, heading: Sequence[str]) -> None:
        self.table, self.results, self.log = (output / f"gpu.{ending}" for ending in ("md", "jsonl", "log"))
        self.heading = list(heading)
        self.ended: dict[Plan, float] = {}
        self.running: list[Running] = []
        output.mkdir(parents=True, exist_ok=True)
        for path in (self.results, self.log):
            path.unlink(missing_ok=True)

    def start(self, command: Sequence[str]) -> "Running":
        """Start a stage's process; what it prints goes to the log."""
        with self.log.open("ab") as stream:
            path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            environment = {**os.environ, "PYTHONPATH": path}
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        self.running.append(Running(process, time.monotonic()))
        return self.running[-1]

    def close(self) -> None:
        """End what still runs."""
        for each in self.running:
            if each.process.poll() is None:
                stop(each.process)

    def finish(self, plan: Plan, running: "Running", limit: float) -> None:
        """Wait for a stage, stop it at its limit, and keep the table up to date."""
        seen = -1
        while running.process.poll() is None and time.monotonic() - running.started < limit:
            time.sleep(0.2)
            if len(read(self.results)) != seen:
                seen = len(read(self.results))
                self.write()
        reason = ""
        if running.process.poll() is None:
            reason = f"stopped at its limit of {limit:.0f} s"
            stop(running.process)
        elif running.process.returncode and not any(each.missed for each in self.of(plan)):
            reason = f"ended with exit code {running.process.returncode}, see gpu.log"
        elif not self.of(plan):
            reason = "ended without a result"
        self.ended[plan] = time.monotonic() - running.started
        if reason:
            append(self.results, Result(plan.name, {}, reason))
        self.write()

    def of(self, plan: Plan) -> list[Result]:
        """Return the results of a stage."""
        return [each for each in read(self.results) if each.stage == plan.name]

    @property
    def has_failed(self) -> bool:
        """Whether anything failed so far."""
        return any(each.missed for each in read(self.results))

    def write(self) -> None:
        """Write the table."""
        lines = [*self.heading, "", "| stage | seconds | result |", "|---|---|---|"]
        for plan, seconds in self.ended.items():
            bad = sum(bool(each.missed) for each in self.of(plan))
            lines.append(f"| {plan.title} | {seconds:.0f} | {f'{bad} missed or failed' if bad else 'passed'} |")
        for plan in (DATA, *STAGES, STUDY_PLAN):
            found = self.of(plan)
            if found:
                lines += ["", f"## {plan.title}", "", *table(found)]
        temporary = self.table.with_suffix(".tmp")
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
        temporary.replace(self.table)


@dataclass(frozen=True)
class Running:
    """A stage's process.

    Attributes:
        process: of the stage.
        started: on the clock of ``time.monotonic``.
    """

    process: subprocess.Popen[bytes]
    started: float


def table(results: Sequence[Result]) -> list[str]:
    """Return the lines of a table with one row a result; the last column says what was missed."""
    columns = list(dict.fromkeys(column for each in results for column in each.figures))
    lines = [f"| {' | '.join([*columns, 'missed'])} |", f"|{'---|' * (len(columns) + 1)}"]
    for each in results:
        cells = [_shown(each.figures.get(column, "")) for column in columns] + [_shown(each.missed)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def heading(device: str, tiny: bool) -> list[str]:
    """Return the first lines of the table: where, when and with what."""
    packages = ("torch", "nnunetv2", "monai")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    where = f"{os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}, {versions}"
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        gpu = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        where = f"{gpu}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {where}"
    lines = ["# On a GPU", "", f"Written by `benchmarks/gpu.py` on {datetime.date.today()}: {where}."]
    if tiny or device == "cpu":
        lines += ["", "**A trial of the script itself: the figures mean nothing.**"]
    return lines


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def run_stages(run: Run, settings: Settings) -> None:
    """Run all stages, one after the other; the data are made while the tests run."""
    data = run.start(DATA.command(settings, run.results, DATA.seconds * settings.factor))
    end = time.monotonic()
    for plan in STAGES:
        end += plan.seconds * settings.factor
        limit = end - time.monotonic()
        run.finish(plan, run.start(plan.command(settings, run.results, limit)), limit)
        print(f"{plan.title}: {run.ended[plan]:.0f} s", flush=True)
        if DATA not in run.ended:
            run.finish(DATA, data, DATA.seconds * settings.factor)
            if any(each.missed for each in run.of(DATA)):
                return  # no other stage can do without


def run_study(run: Run, settings: Settings, download: Path, seconds: float) -> None:
    """Run the accuracy study in the time that is left; what it has done is kept, and the next run continues."""
    command = STUDY_PLAN.command(settings, run.results, seconds)
    running = run.start([*command, "--download", str(download.resolve())])
    run.finish(STUDY_PLAN, running, max(seconds, 0) + STUDY_ENDS_S)


def main(words: Sequence[str] | None = None) -> int:
    """Run all stages; return 1 where one failed or a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and images")
    parser.add_argument("--output", type=Path, help="folder (default: $OUT, else benchmarks/results on a GPU)")
    parser.add_argument(
        "--study",
        type=Path,
        nargs="?",
        const=Path("open-kbp"),
        metavar="DOWNLOAD",
        help="also run studies/openkbp_gpu.toml, in the time left, on this download (default: %(const)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=TOTAL_SECONDS, help="total, for --study (default: %(default)s)"
    )
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu --tiny tries the script")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        work = Path(folder)
        default = RESULTS if given.device == "cuda" and not given.tiny else Path(tempfile.gettempdir()) / "gpu_trial"
        output = given.output or Path(os.environ.get("OUT") or default)
        run = Run(output, heading(given.device, given.tiny))
        try:
            run_stages(run, Settings(given.device, given.tiny, work))
            if given.study:
                study = Settings(given.device, given.tiny, output.resolve() / "study")
                run_study(run, study, given.study, given.seconds - (time.monotonic() - start))
        finally:
            run.close()
    print(run.table.read_text(encoding="utf-8"))
    return 1 if run.has_failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # which ends the stages too
    sys.exit(main())
