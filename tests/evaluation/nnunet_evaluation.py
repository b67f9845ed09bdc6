"""nnU-Net's own evaluation of two folders, in this process."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def nnunet_evaluation(
    monkeypatch: pytest.MonkeyPatch,
    predictions: Path,
    labels: Path,
    scored: list[int],
    ignore_label: int | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    evaluation = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    class Here:  # nnU-Net's own pool would start fresh processes
        starmap = staticmethod(lambda function, arguments: [function(*each) for each in arguments])

    here = SimpleNamespace(Pool=lambda _: contextlib.nullcontext(Here))
    monkeypatch.setattr(evaluation.multiprocessing, "get_context", lambda _: here)
    files = (str(labels), str(predictions), output and str(output), SimpleITKIO(), ".nii.gz")
    return evaluation.compute_metrics_on_folder(*files, scored, ignore_label, 1)
