"""Memory and time that a step requests on a cluster: from the data set's size and from what earlier steps have cost.

Until a model's first fold has finished, its folds request a generous guess; afterwards 1.5 times what that fold used,
which Snakemake's benchmark files tell. A step that is tried again requests half as much more.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unetr_nnunet.experiments.settings import RETRIES
from unetr_nnunet.experiments.study import Study
from unetr_nnunet.experiments.study_status import read_status
from unetr_nnunet.nnunet.folders import dataset_if_there
from unetr_nnunet.nnunet.json_file import read_if_whole

GIB_IN_MB = 1024
PROCESS_MB = 4 * GIB_IN_MB
"""A Python process with torch, nnU-Net and a few patches."""
LABELS = 14
"""Of BTCV, background included, until the data set is there."""
CASES = 30
"""Likewise, training cases."""
EXPORT_COPIES = 3
"""nnU-Net holds the logits of a whole case, resamples them, and takes their softmax."""
EXPORTS = 2
"""Cases that nnU-Net exports, and ensembles average, side by side."""
USUAL_CASE_VOXELS = 512 * 512 * 200
FIRST_TRAINING_MINUTES = 3 * 24 * 60
OTHER_MINUTES = 24 * 60
SHORTEST_MINUTES = 10
RESERVE = 1.5
NOTHING_TO_DO_S = 60.0
"""A step that ended sooner had nothing to train; its cost means nothing."""
MOST = 2.0
"""Times the first request."""
NOT_MEASURED = 0.0


def retries(longest_minutes: int | None) -> int:
    """Return how often a step that failed is tried again: under a time limit as often as a long training needs."""
    return max(RETRIES, FIRST_TRAINING_MINUTES // longest_minutes if longest_minutes else 0)


def request(
    study: Study,
    folder: Path,
    step: str,
    wildcards: Mapping[str, str],
    attempt: int = 1,
    longest_minutes: int | None = None,
) -> dict[str, int]:
    """Return ``mem_mb`` and ``runtime`` (minutes) of a step.

    Args:
        study: the study.
        folder: the study's.
        step: name of the step.
        wildcards: ``model`` and ``fold``, where the step has them.
        attempt: 1 for the first.
        longest_minutes: time limit of a job; a training that needs longer continues in the next.
    """
    memory_mb = PROCESS_MB + case_voxels(study) * labels(study) * 4 * EXPORT_COPIES * EXPORTS / 2**20
    minutes = float(FIRST_TRAINING_MINUTES if step == "train" else OTHER_MINUTES)
    if step == "train":
        costs = [read_cost(path) for path in (folder / "costs" / step / wildcards["model"]).glob("fold_*.tsv")]
        known = [cost for cost in costs if cost["seconds"] >= NOTHING_TO_DO_S]
        if known:
            # a training that was resumed has taken more than its last job tells
            whole_s = _training_seconds(study, folder, wildcards["model"])
            minutes = RESERVE * max(whole_s, *(cost["seconds"] for cost in known)) / 60
            measured_mb = RESERVE * max(cost["memory_mb"] for cost in known)
            memory_mb = max(measured_mb, PROCESS_MB) if measured_mb else memory_mb
    more = min(MOST, 1 + (attempt - 1) / 2)
    runtime = max(SHORTEST_MINUTES, math.ceil(minutes * more))
    return {"mem_mb": math.ceil(memory_mb * more), "runtime": min(runtime, longest_minutes or runtime)}


def _training_seconds(study: Study, folder: Path, identifier: str) -> float:
    """Return how long all epochs of a model take by nnU-Net's own logs; 0 where they do not tell."""
    one = replace(study, models=(study.model(identifier),), tables=())  # the logs of all others need not be read
    data = dataset_if_there(study.dataset)
    for training in read_status(one, folder, data.results).trainings if data else ():
        if training.epoch_seconds and training.planned_epochs:
            return training.epoch_seconds * training.planned_epochs
    return NOT_MEASURED


def read_cost(path: Path) -> dict[str, float]:
    """Return ``seconds`` and ``memory_mb`` of a step from Snakemake's benchmark file; zeros where it has none."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        return {"seconds": float(rows[-1]["s"]), "memory_mb": _number(rows[-1]["max_rss"])}
    except (OSError, ValueError, KeyError, IndexError):
        return {"seconds": NOT_MEASURED, "memory_mb": NOT_MEASURED}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return NOT_MEASURED


def case_voxels(study: Study) -> int:
    """Return the voxels of the largest case: from the fingerprint, else those of a usual abdominal CT."""
    data = dataset_if_there(study.dataset)
    fingerprint = read_if_whole(data.preprocessed / "dataset_fingerprint.json") if data else None
    shapes = fingerprint.get("shapes_after_crop") if isinstance(fingerprint, dict) else None
    return max(map(math.prod, shapes)) if shapes else USUAL_CASE_VOXELS


def labels(study: Study) -> int:
    """Return the labels of the data set, background included; those of BTCV while it is not there."""
    return len(_dataset_json(study).get("labels", ())) or LABELS


def case_count(study: Study) -> int:
    """Return the training cases of the data set; those of BTCV while it is not there."""
    return int(_dataset_json(study).get("numTraining", CASES))


def _dataset_json(study: Study) -> dict[str, Any]:
    data = dataset_if_there(study.dataset)
    content = read_if_whole(data.raw / "dataset.json") if data else None
    return content if isinstance(content, dict) else {}
