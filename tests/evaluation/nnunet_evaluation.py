"""nnU-Net's own evaluation of two folders, in this process."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import use_threads


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

    use_threads(monkeypatch)
    files = (str(labels), str(predictions), output and str(output), SimpleITKIO(), ".nii.gz")
    return evaluation.compute_metrics_on_folder(*files, scored, ignore_label, 1)
