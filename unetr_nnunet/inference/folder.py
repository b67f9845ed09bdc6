"""Predict many cases: read ahead, predict, write behind; a defect fails only its own case.

Reading and writing run in threads beside the network. No worker processes: nnU-Net's can be killed for memory without a
word (MIC-DKFZ/nnUNet issue 1869).
"""

import contextlib
import csv
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.images.cases import Case
from unetr_nnunet.images.files import in_utf8
from unetr_nnunet.images.read import read_case
from unetr_nnunet.inference.outputs import ExtraFailed, Outputs
from unetr_nnunet.inference.predictor import Predictor, Segmentation
from unetr_nnunet.inference.probabilities import reader_orientation
from unetr_nnunet.inference.run_record import RunRecord

CURRENT_CASE: ContextVar[str] = ContextVar("case", default="")
"""The case that a thread is predicting, for what is logged on the way."""

Report = Callable[[Case, float], None]
"""Called with a case and how much of it is done, 0 to 1."""


@dataclass
class FailedCases:
    """What went wrong, kept in a file.

    Args:
        path: a CSV file with the columns case, file and reason; it is there only while a case has failed.
    """

    path: Path
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, case: Case, error: BaseException) -> None:
        """Note a case and its reason; on a full disk in memory only."""
        files = [str(file) for channel in case.channels for file in channel]
        reason = " ".join(str(error).split()) or type(error).__name__
        self.rows.append((in_utf8(case.name), in_utf8(files[0] if files else ""), in_utf8(reason)))
        with contextlib.suppress(OSError):
            self.write()

    def write(self) -> None:
        """Write the file, or remove an older run's where nothing has failed."""
        if not self.rows:
            self.path.unlink(missing_ok=True)
            return
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("case", "file", "reason"))
            writer.writerows(sorted(self.rows))


def predict_cases(
    cases: Sequence[Case],
    predictors: Sequence[Predictor],
    outputs: Outputs,
    failed: FailedCases,
    record: RunRecord,
    report: Report,
    assumed_orientation: str | None = None,
) -> None:
    """Predict cases and write what is wanted of each.

    Args:
        cases: what to predict.
        predictors: one for each device; they share the cases.
        outputs: writes the results.
        failed: takes the cases that could not be done.
        record: takes what each case has cost.
        report: see `Report`; called from several threads.
        assumed_orientation: see `read_case`.
    """
    failed.write()
    waiting = iter(list(cases))
    lock, stop = threading.Lock(), threading.Event()

    def next_case() -> Case | None:
        with lock:
            return None if stop.is_set() else next(waiting, None)

    def note(case: Case, error: BaseException) -> None:
        with lock:
            if not isinstance(error, ExtraFailed):
                with contextlib.suppress(OSError):  # such as a full disk
                    outputs.discard(case)
            failed.add(case, error)
        report(case, 1.0)

    with (
        ThreadPoolExecutor(len(predictors), "read") as readers,
        ThreadPoolExecutor(len(predictors), "write") as writers,
        ThreadPoolExecutor(len(predictors), "predict") as devices,
    ):
        work = [
            devices.submit(
                _Worker(predictor, outputs, note, record, report, stop, readers, writers, assumed_orientation).run,
                next_case,
            )
            for predictor in predictors
        ]
        try:
            for worker in work:
                worker.result()
        except BaseException:
            stop.set()
            raise


class _Stopped(Exception):  # noqa: N818 - no error
    """The run is being interrupted."""


@dataclass
class _Worker:
    """One device's share of the cases."""

    predictor: Predictor
    outputs: Outputs
    note: Callable[[Case, BaseException], None]
    record: RunRecord
    report: Report
    stop: threading.Event
    readers: ThreadPoolExecutor
    writers: ThreadPoolExecutor
    assumed_orientation: str | None

    def run(self, next_case: Callable[[], Case | None]) -> None:
        writing: Future[None] | None = None
        for case, reading in self._read_ahead(next_case):
            try:
                channels = reading.result()
                start = time.monotonic()
                segmentation = self._segment(case, channels)
            except _Stopped:
                break
            except Exception as error:  # whatever it is, the other cases go on
                self.note(case, error)
                continue
            if writing is not None:
                writing.result()  # at most one case waits to be written
            writing = self.writers.submit(self._write, case, channels, segmentation, start)
        if writing is not None:
            writing.result()

    def _read_ahead(self, next_case: Callable[[], Case | None]) -> Iterator[tuple[Case, Future[list[sitk.Image]]]]:
        case = next_case()
        reading = self.readers.submit(self._read, case) if case else None
        while case is not None and reading is not None:
            reading.exception()  # wait for it, so that no more than one case is read ahead
            upcoming = next_case()
            ahead = self.readers.submit(self._read, upcoming) if upcoming else None
            yield case, reading
            case, reading = upcoming, ahead

    def _read(self, case: Case) -> list[sitk.Image]:
        self.outputs.refuse_name(case)
        return read_case(case, self.assumed_orientation)

    def _segment(self, case: Case, channels: list[sitk.Image]) -> Segmentation:
        furthest = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal furthest
            if self.stop.is_set():
                raise _Stopped
            furthest = max(furthest, 0.95 * done / max(total, 1))  # a second look starts at 0
            self.report(case, furthest)

        CURRENT_CASE.set(in_utf8(case.name))
        orientation = None
        if self.outputs.save_probabilities:
            orientation = reader_orientation(self.outputs.model.plans.image_reader_writer_class, channels[0])
        with self.outputs.started(case):
            return self.predictor.segment(channels, progress, orientation)

    def _write(self, case: Case, channels: list[sitk.Image], segmentation: Segmentation, start: float) -> None:
        try:
            self.outputs.write(case, channels, segmentation)
        except Exception as error:  # such as a full disk
            self.note(case, error)
            if not isinstance(error, ExtraFailed):
                return
        self.record.add(case.name, time.monotonic() - start, self.outputs.paths(case), segmentation.engines)
        self.report(case, 1.0)
