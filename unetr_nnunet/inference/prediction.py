"""Predict a folder of images with trained models: what ``unetr_nnunet predict`` does, as a function."""

import json
import logging
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.folder_lock import folder_lock
from unetr_nnunet.images.cases import Case, find_cases
from unetr_nnunet.images.files import in_utf8
from unetr_nnunet.images.overlay import draw_overlay
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.folder import FailedCases, Report, predict_cases
from unetr_nnunet.inference.model import Model, load_model
from unetr_nnunet.inference.model_set import ModelSet, read_model_set
from unetr_nnunet.inference.model_zip import model_folder
from unetr_nnunet.inference.models_mark import models_mark
from unetr_nnunet.inference.outputs import Outputs
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.inference.run_record import RunRecord
from unetr_nnunet.inference.volumes_table import VolumesTable
from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT
from unetr_nnunet.nnunet.label_statistics import FILE as LABEL_STATISTICS
from unetr_nnunet.nnunet.label_statistics import TrainingStatistics, read_statistics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionSettings:
    """How to predict.

    Attributes:
        folds: folds to average; None for all that are trained.
        checkpoint: file name of the checkpoint in each fold.
        trust_checkpoint: also load checkpoints that can run code.
        device: "cpu", "cuda" (all GPUs) or "cuda:N"; None for all GPUs, or the CPU without a GPU.
        fidelity: what may differ from nnU-Net's own prediction, see `Fidelity`.
        mirroring: average mirrored views where the model was trained for them.
        assumed_orientation: of NIfTI files whose header does not tell it, such as "RAS"; None to refuse them.
        resume: skip cases that are complete.
        part: (k, n): only the k-th of n shares of the cases.
        preview: also draw a PNG of each case.
        dicom_seg: also write DICOM-SEG for DICOM input.
        save_probabilities: also write float16 ``.npz`` for ``nnUNetv2_ensemble``.
    """

    folds: tuple[int | str, ...] | None = None
    checkpoint: str = FINAL_CHECKPOINT
    trust_checkpoint: bool = False
    device: str | None = None
    fidelity: Fidelity = Fidelity.DEFAULT
    mirroring: bool = True
    assumed_orientation: str | None = None
    resume: bool = False
    part: tuple[int, int] = (1, 1)
    preview: bool = False
    dicom_seg: bool = False
    save_probabilities: bool = False

    def __post_init__(self) -> None:
        number, count = self.part
        if not 1 <= number <= count:
            raise ValueError(f"part {self.part}: give (k, n) for the k-th of n shares, k from 1 to n")
        folds = (self.folds,) if isinstance(self.folds, int | str) else self.folds
        object.__setattr__(self, "folds", None if folds is None else tuple(folds))
        object.__setattr__(self, "fidelity", Fidelity(self.fidelity))
        object.__setattr__(self, "device", None if self.device is None else str(self.device))


@dataclass(frozen=True)
class Summary:
    """What became of the cases.

    Attributes:
        written: number of cases written.
        failed: case, file and reason of each that could not be done; also in ``failed.csv``.
        to_look_at: one line on the label maps that stand out; the reasons are in ``quality.csv``.
    """

    written: int
    failed: tuple[tuple[str, str, str], ...]
    to_look_at: str


def predict_folder(
    source: Path | str,
    output: Path | str,
    models: Sequence[Path | str] | Path | str,
    settings: PredictionSettings | None = None,
    report: Callable[[Sequence[Case]], Report] | None = None,
) -> Summary:
    """Segment every image in a folder; a bad image fails only its own case.

    Args:
        source: an image, a folder of images, or a tree of DICOM series.
        output: folder for the label maps and tables.
        models: model folders or zip files, or a chosen set of `unetr_nnunet crossval`; several are averaged.
        settings: how; None for the defaults.
        report: given the cases, returns what is told of their progress, see `Report`; called from several threads.

    Raises:
        FileNotFoundError: there is no such input or model.
        ValueError: a model cannot be used, nothing in ``source`` can be predicted, or ``output`` holds something else.
        BlockingIOError: another run writes to ``output``.
    """
    source, output, settings = Path(source), Path(output), settings or PredictionSettings()
    models = [models] if isinstance(models, str | Path) else list(models)
    if not models:
        raise ValueError("no model to predict with: give a model folder or zip file")
    number, count = settings.part
    part = f"{number}of{count}" if count > 1 else ""
    suffix = f"_part{part}" if part else ""
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist: name an image, or a folder of images")
    devices = _devices(settings.device)
    with ExitStack() as stack:
        folders = [stack.enter_context(model_folder(Path(path))) for path in models]
        sets = [read_model_set(folder) or ModelSet((folder,)) for folder in folders]
        predictors = [_predictor(sets, device, settings, output) for device in devices]
        model = predictors[0].models[0]
        cases, remarks = find_cases(source, len(model.channel_names), "CT" if model.is_ct else None)
        for remark in remarks:
            logger.info(remark)
        outputs = Outputs(
            output,
            model,
            VolumesTable(output / f"volumes{suffix}.csv"),
            save_probabilities=settings.save_probabilities,
            dicom_seg=settings.dicom_seg,
            preview=_preview(model.is_ct) if settings.preview else None,
            statistics=_statistics(model),
            assumed_orientation=settings.assumed_orientation,
        )
        _refuse_overwriting(source, cases, outputs)
        cases = cases[number - 1 :: count]
        stack.enter_context(folder_lock(output, part))
        mark = models_mark(
            predictors[0].models,
            (sets[0].largest_only if len(sets) == 1 else (), settings.fidelity.value, settings.mirroring),
        )
        outputs.start(count == 1, mark, repeated=None if settings.resume or count > 1 else cases)
        todo = _todo(cases, outputs, settings.resume)
        record = RunRecord(
            output / f"run{suffix}.json",
            {str(given): _model_files(model_set, settings) for given, model_set in zip(models, sets, strict=True)},
            {**asdict(settings), "devices": devices, "input": in_utf8(str(source))},
            settings.resume,
        )
        failed = FailedCases(output / f"failed{suffix}.csv")
        start = time.monotonic()
        progress = report(todo) if report else _no_report
        predict_cases(todo, predictors, outputs, failed, record, progress, settings.assumed_orientation)
        record.finish(failed.rows)
    written = len(todo) - len(failed.rows)
    if written:
        _write_costs(output / f"costs{suffix}.json", (time.monotonic() - start) / len(todo), devices)
    return Summary(written, tuple(failed.rows), outputs.quality.summary())


def _statistics(model: Model) -> TrainingStatistics | None:
    """Return what a model folder knows of its training labels; say what is missing without."""
    try:
        statistics = read_statistics(model.folder / LABEL_STATISTICS)
    except ValueError as error:
        logger.warning(error)
        return None
    if statistics is None:
        missing = "no %s in the model folder: volume, HU and parts are not compared with the training labels"
        logger.info(missing, LABEL_STATISTICS)
    return statistics


def _no_report(case: Case, share: float) -> None:
    """Report nothing."""


def _todo(cases: Sequence[Case], outputs: Outputs, resume: bool) -> list[Case]:
    """Return the cases to predict; last those that an earlier run was killed in, so that they do not block the rest."""
    todo = [case for case in cases if not (resume and outputs.is_done(case))]
    if len(todo) < len(cases):
        logger.info("%d of %d cases are already done", len(cases) - len(todo), len(cases))
    for case in todo:
        if resume and outputs.inputs.differ(case, outputs.assumed_orientation):
            logger.warning(
                "%s: its image is not the one that its label map was made from: predicting it again", case.name
            )
    killed = [case for case in todo if outputs.was_interrupted(case)]
    for case in killed:
        logger.warning("%s: an earlier run was killed while it predicted this case, so it comes last", case.name)
    return [case for case in todo if case not in killed] + killed


def _devices(wanted: str | None) -> list[str]:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *(f"cuda:{gpu}" for gpu in range(gpus))]
    if wanted not in (None, "cuda", *known):
        raise ValueError(f"--device {wanted}: no such device; available: {', '.join(known)}")
    if wanted not in (None, "cuda"):
        return [str(wanted)]
    if not gpus and wanted:
        raise ValueError("--device cuda: there is no GPU here (`unetr_nnunet doctor` tells more); leave it out")
    return [f"cuda:{gpu}" for gpu in range(gpus)] or ["cpu"]


def _predictor(sets: Sequence[ModelSet], device: str, settings: PredictionSettings, scratch: Path) -> Predictor:
    models = [
        load_model(
            path,
            model_set.folds if settings.folds is None else settings.folds,
            settings.checkpoint,
            settings.trust_checkpoint,
        )
        for model_set in sets
        for path in model_set.models
    ]
    for model in models:
        axes = f"arrays in {model.orientation} ({model.orientation_source})"
        logger.info("model %s: %s, %d fold(s), %s", model.folder, model.trainer_name, len(model.parameters), axes)
    postprocess = sets[0].postprocess
    if len(sets) > 1 and any(model_set.largest_only for model_set in sets):
        logger.info("several models are averaged, without the post-processing of each")
    if len(sets) > 1:
        postprocess = ModelSet(()).postprocess
    return Predictor(
        models,
        device,
        settings.fidelity,
        mirroring=settings.mirroring,
        scratch=scratch,
        postprocess=postprocess,
    )


def _model_files(model_set: ModelSet, settings: PredictionSettings) -> list[Path]:
    """Return the files that make up the models: plans, data set, and the checkpoints of the folds."""
    folds = model_set.folds if settings.folds is None else settings.folds
    files = []
    for folder in model_set.models:
        files += [folder / "plans.json", folder / "dataset.json"]
        files += [path for path in [folder / LABEL_STATISTICS] if path.is_file()]
        wanted = [folder / f"fold_{fold}" for fold in folds] if folds else sorted(folder.glob("fold_*"))
        files += [path / settings.checkpoint for path in wanted if (path / settings.checkpoint).is_file()]
    return files


def _preview(is_ct: bool) -> "partial[None]":
    return partial(draw_overlay) if is_ct else partial(draw_overlay, window=None)


def _refuse_overwriting(source: Path, cases: Sequence[Case], outputs: Outputs) -> None:
    """Refuse an output folder that holds inputs, or links to them, or whose masks a later run would take for CTs."""
    named = [path for case in cases for paths in case.channels for path in paths]
    inputs = {path.resolve() for path in named}
    folders = {source.resolve(), *(path.parent for path in inputs), *(path.parent.resolve() for path in named)}
    if outputs.folder.resolve() in folders:
        raise ValueError(f"{outputs.folder} holds inputs, which could be overwritten: choose another output folder")
    for path in (path for case in cases for path in outputs.paths(case)):
        if path.resolve() in inputs:
            raise ValueError(f"{path} is an input and would be overwritten: choose another output folder")


def _write_costs(path: Path, seconds_per_case: float, devices: Sequence[str]) -> None:
    """Write what a case has cost, for ``unetr_nnunet report``."""
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = {
        "seconds_per_case": round(seconds_per_case, 2),
        "peak_memory_gib": round(peak_kib / 2**20, 2),
        "device": ", ".join(devices),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(costs, indent=1), encoding="utf-8")
