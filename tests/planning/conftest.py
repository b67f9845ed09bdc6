"""A data set as the planner sees it: names of images, dataset.json, fingerprint; no voxels."""

import contextlib
import io
import json
from functools import partial
from math import prod

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from tests.conftest import set_nnunet_folders, use_threads
from unetr_nnunet.planning.measured import Training
from unetr_nnunet.planning.memory import MemoryEstimate
from unetr_nnunet.planning.nnunet_plan import NNUNetPlan, NNUNetPlanner
from unetr_nnunet.trainers.step import optimisation_step

MIB = 2**20
BYTES_PER_VOXEL = 1000
FLOP_PER_TOKEN = 5 * 10**8
FIXED = 300 * MIB


def on_cpu():
    """Return how the trainer runs a step on a CPU."""
    return Training(torch.device("cpu"), None, partial(optimisation_step, max_norm=1.0))


def on_gpu():
    """Return how the trainer runs a step on a GPU, but for the compiler, which is not predicted."""
    update = partial(optimisation_step, max_norm=1.0, scaler=torch.amp.GradScaler("cuda"), autocast_dtype=torch.float16)
    return Training(torch.device("cuda"), torch.float16, update)


def linear_memory(step):
    """Return memory that grows with the voxels and operations that grow with the tokens, without seconds of tracing."""
    voxels = prod(step.patch_size) * step.batch_size
    tokens = voxels // prod(step.token_size or (8, 16, 16))
    at_peak = {"parameters": FIXED // 3, "optimizer state": FIXED - FIXED // 3, "workspace": 50 * MIB}
    at_peak["saved activations"] = BYTES_PER_VOXEL * voxels
    return MemoryEstimate(BYTES_PER_VOXEL * voxels, at_peak, sum(at_peak.values()), flop=FLOP_PER_TOKEN * tokens)


class SilentPlanner(ExperimentPlanner):
    """nnU-Net's default planner, without its plans file."""

    def save_plans(self, plans):
        pass


def stock_configurations():
    """Return the configurations that nnU-Net plans for data set 17."""
    planner = SilentPlanner(17)
    with contextlib.redirect_stdout(io.StringIO()), torch.device("meta"):  # without weights, in less time
        planner.plan_experiment()
    return planner.plans["configurations"]


@pytest.fixture
def instant_memory(monkeypatch):
    """Memory without a network; the steps that were asked for."""
    asked = []

    def predict(step):
        asked.append(step)
        return linear_memory(step)

    monkeypatch.setattr("unetr_nnunet.planning.sizing.predict_memory", predict)
    return asked


@pytest.fixture(scope="session")
def nnunet_plans() -> dict[str, NNUNetPlan]:
    """What nnU-Net's planner has answered so far, by the question; an answer takes it seconds."""
    return {}


@pytest.fixture
def make_dataset(tmp_path, monkeypatch, nnunet_plans):
    """Write data set 17, shaped like BTCV unless told otherwise; returns its raw and its preprocessed folder."""
    set_nnunet_folders(monkeypatch, tmp_path)
    use_threads(monkeypatch)
    plan = NNUNetPlanner.plan

    def plan_once(planner, *image):
        question = repr((planner._planner.dataset_json, [np.array(value).tolist() for value in image]))
        if question not in nnunet_plans:
            nnunet_plans[question] = plan(planner, *image)
        return nnunet_plans[question]

    monkeypatch.setattr(NNUNetPlanner, "plan", plan_once)

    def make(*, shape=(130, 512, 512), spacing_mm=(3.0, 0.76, 0.76), cases=30, **dataset):
        raw, preprocessed = (tmp_path / kind / "Dataset017_Abdomen" for kind in ("nnUNet_raw", "nnUNet_preprocessed"))
        for name in ("imagesTr", "labelsTr"):
            (raw / name).mkdir(parents=True)
        for case in range(cases):
            (raw / "imagesTr" / f"case_{case:02d}_0000.nii.gz").touch()
            (raw / "labelsTr" / f"case_{case:02d}.nii.gz").touch()
        content = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0} | {f"organ {label}": label for label in range(1, 14)},
            "numTraining": cases,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "NibabelIOWithReorient",
            "converted_by": "unetr_nnunet",
        }
        (raw / "conversion.json").touch()
        (raw / "dataset.json").write_text(json.dumps(content | dataset))
        preprocessed.mkdir(parents=True)
        fingerprint = {
            "spacings": [list(spacing_mm)] * cases,
            "shapes_after_crop": [list(shape)] * cases,
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {
                "0": {"mean": 80.0, "std": 100.0, "percentile_00_5": -100.0, "percentile_99_5": 300.0}
            },
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        return raw, preprocessed

    return make
