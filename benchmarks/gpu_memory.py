"""Prediction when a GPU's memory is short, as a stage of `benchmarks.gpu`: each way out is taken, and said.

On a GPU, torch's allocator is given less and less memory. On a CPU the errors are simulated.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import numpy as np
import SimpleITK as sitk
import torch

from benchmarks.gpu_predict import Models, prepare_models, quarter
from benchmarks.gpu_stage import GIB, NOT_ON_A_CPU, Stage, run_stage
from unetr_nnunet.inference.label_map import LogitsOnImage, Room
from unetr_nnunet.inference.model import Model, load_model
from unetr_nnunet.inference.placement import Placement
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.inference.sliding_window import SlidingWindow

SHARES = (0.9, 0.3, 0.1, 0.03, 0.005)
"""Of the memory that a prediction takes when it may take what it likes."""
AGREEMENT = 0.99
"""With the label map of a prediction that had all the memory it wanted."""


def fall_backs() -> list[str]:
    """Return what is said of each way out of a GPU's lack of memory, in the order in which they are taken."""
    found = []
    way: Placement | Room | None
    for way in (Placement.on(torch.device("cuda")), Room(torch.device("cuda"))):
        while way is not None and way.device.type != "cpu":
            smaller = way.smaller()
            way = smaller[0] if smaller else None
            found += [smaller[1]] if smaller else []
    return found


class _Messages(logging.Handler):
    """Keeps the warnings that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class _Predictions:
    """Predictions of one CT, and what was said."""

    def __init__(self, stage: Stage, models: Models) -> None:
        self.stage, self.models = stage, models
        self.model: Model = load_model(models.plain, None)
        self.ct = quarter(stage)
        self.said: list[str] = []
        self.expected: Any = None

    def run(self, what: str, device: str) -> None:
        """Predict once more, and report it."""
        log = _Messages()
        logging.getLogger("unetr_nnunet").addHandler(log)
        start = time.perf_counter()
        mask = sitk.GetArrayFromImage(Predictor([self.model], device).predict([self.ct]))
        logging.getLogger("unetr_nnunet").removeHandler(log)
        figures: dict[str, Any] = {"memory": what, "said": "; ".join(log.messages) or "nothing"}
        figures["seconds"] = time.perf_counter() - start if self.stage.on_gpu else NOT_ON_A_CPU
        self.expected = mask if self.expected is None else self.expected
        agreement = float(np.mean(mask == self.expected))
        low = self.models.trained and agreement < AGREEMENT
        self.stage.report({**figures, "agreement": agreement}, "another label map" if low else "")
        self.said += log.messages

    def missing(self, expected: list[str]) -> list[str]:
        """Return the ways out that were not taken."""
        return [words for words in expected if not any(words in line for line in self.said)]


def run_out_of_memory(stage: Stage) -> None:
    """Take each way out, and report those that were not taken."""
    plain = stage.work / "plain"
    models = Models(stage.work / "mirrored", plain, (stage.model / "fold_0").is_dir())
    predictions = _Predictions(stage, models if plain.is_dir() else prepare_models(stage))
    expected = fall_backs()
    if stage.on_gpu:
        _on_a_gpu(predictions, expected)
    else:
        predictions.run("enough", "cpu")
        with _no_room_on_a_gpu():
            predictions.run("simulated: none on a GPU", "cuda")
        expected = expected[:-1]  # logits that are on no GPU cannot leave it
    missing = predictions.missing(expected)
    missed = f"not reached: {'; '.join(missing)}" if missing else ""
    stage.report({"memory": "all", "said": f"{len(expected) - len(missing)} of {len(expected)} ways out"}, missed)


def _on_a_gpu(predictions: _Predictions, expected: list[str]) -> None:
    whole = torch.cuda.get_device_properties(0).total_memory
    predictions.run("enough", "cuda")
    peak = torch.cuda.max_memory_reserved()
    for share in SHARES:
        if predictions.missing(expected[:-1]):
            with _limit(share * peak / whole):
                predictions.run(f"at most {share * peak / GIB:.2f} GiB", "cuda")
    with _no_room_for_the_label_map(whole):
        predictions.run("enough for the network, none for the label map", "cuda")


@contextmanager
def _limit(share: float) -> Iterator[None]:
    """Let torch's allocator have no more than a share of the GPU's memory."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@contextmanager
def _no_room_for_the_label_map(whole: int) -> Iterator[None]:
    real: Callable[..., Any] = LogitsOnImage._label_map

    def label_map(self: LogitsOnImage) -> Any:
        if self.room.device.type != "cuda":
            return real(self)
        torch.cuda.empty_cache()
        with _limit(torch.cuda.memory_reserved() / whole):
            ballast = _ballast()
            try:
                return real(self)
            finally:
                ballast.clear()

    with patch.object(LogitsOnImage, "_label_map", label_map):
        yield


def _ballast() -> list[torch.Tensor]:
    """Return what fills the gaps of a megabyte or more in the memory that torch's allocator has."""
    ballast: list[torch.Tensor] = []
    for megabytes in (64, 8, 1):
        with suppress(torch.OutOfMemoryError):
            while True:
                ballast.append(torch.empty(megabytes * 2**20, dtype=torch.uint8, device="cuda"))
    return ballast


@contextmanager
def _no_room_on_a_gpu() -> Iterator[None]:
    real: Callable[..., None] = SlidingWindow.__init__

    def fail_on_a_gpu(self: SlidingWindow, data: Any, part: Any, model: Any, placement: Placement, *more: Any) -> None:
        if placement.device.type == "cuda":
            raise torch.OutOfMemoryError("simulated")
        real(self, data, part, model, placement, *more)

    with patch.object(SlidingWindow, "__init__", fail_on_a_gpu):
        yield


if __name__ == "__main__":
    sys.exit(run_stage(run_out_of_memory))
