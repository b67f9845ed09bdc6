"""Segment CTs with trained models: any file format, any orientation; a bad input fails only its own case.

example:
  unetr_nnunet predict -i cts/ -o masks/ -m nnUNet_results/Dataset017_BTCV/nnUNetTrainerUNETR__nnUNetPlans__3d_fullres
  unetr_nnunet predict -i dicom/ -o masks/ -d 17 -c 3d_fullres -tr nnUNetTrainerUNETR -f 0 1 2 3 4 --preview
  unetr_nnunet predict -i cts/ -o masks/ -m model.zip --part 2/8 --resume       one job of a job array

INPUT is a file (.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd), a folder of them, or a tree of DICOM series. Every model
folder of nnU-Net v2 will do. OUTPUT receives a label map (.nii.gz) for each case in its own geometry, volumes.csv, and
label names and colours for ITK-SNAP and 3D Slicer. If a case fails, failed.csv lists it with the reason and the exit
code is 1.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT

if TYPE_CHECKING:
    from unetr_nnunet.images.cases import Case
    from unetr_nnunet.inference.model_set import ModelSet
    from unetr_nnunet.inference.outputs import Outputs, Preview
    from unetr_nnunet.inference.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="INPUT", help="file or folder of CTs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUTPUT", help="folder to write to")
    model = parser.add_argument_group("model", "-m, or -d and -c as in nnUNetv2_predict")
    model.add_argument(
        "-m",
        "--model",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="model folder or zip, or the best_model of a crossval; several are averaged",
    )
    model.add_argument("-d", "--dataset", metavar="ID", help="data set number or name in nnUNet_results")
    model.add_argument("-c", "--configuration", help="such as 3d_fullres")
    model.add_argument("-tr", "--trainer", default="nnUNetTrainer", help="trainer name (default: %(default)s)")
    model.add_argument("-p", "--plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    model.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="folds to average (default: all trained ones)")
    model.add_argument(
        "-chk", "--checkpoint", default=FINAL_CHECKPOINT, help="file name of the checkpoint (default: %(default)s)"
    )
    model.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="also load checkpoints that can run code; only for your own files",
    )
    parser.add_argument(
        "--assume-orientation",
        type=_orientation,
        metavar="CODE",
        help="orientation, such as RAS, of NIfTI files whose header does not tell it (default: refuse them)",
    )
    parser.add_argument("--exact", action="store_true", help="compute exactly as nnUNetv2_predict does; slower")
    parser.add_argument("--device", help="cpu, cuda (all GPUs) or cuda:N (default: cuda if available)")
    parser.add_argument("--resume", action="store_true", help="skip cases that are complete in OUTPUT")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="K/N", help="only the K-th of N shares of the cases"
    )
    parser.add_argument("--preview", action="store_true", help="also draw a PNG of each case")
    parser.add_argument("--dicom-seg", action="store_true", help="also write DICOM-SEG for DICOM input")
    parser.add_argument(
        "--save-probabilities", action="store_true", help="also write float16 .npz for nnUNetv2_ensemble"
    )


def _part(text: str) -> tuple[int, int]:
    try:
        number, count = (int(word) for word in text.split("/"))
    except ValueError:
        number, count = 0, 0
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 2/8: the second of eight")
    return number, count


def _orientation(text: str) -> str:
    from unetr_nnunet.images.orientation import refuse_wrong_code

    try:
        refuse_wrong_code(text.upper())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text.upper()


def run(arguments: argparse.Namespace) -> int:
    """Predict, and name what failed."""
    import time
    from contextlib import ExitStack

    from unetr_nnunet.folder_lock import folder_lock
    from unetr_nnunet.images.cases import find_cases
    from unetr_nnunet.inference.folder import FailedCases, predict_cases
    from unetr_nnunet.inference.model_set import ModelSet, read_model_set
    from unetr_nnunet.inference.model_zip import model_folder
    from unetr_nnunet.inference.models_mark import models_mark
    from unetr_nnunet.inference.outputs import Outputs
    from unetr_nnunet.inference.volumes_table import VolumesTable

    output, (number, count) = arguments.output, arguments.part
    part = f"{number}of{count}" if count > 1 else ""
    suffix = f"_part{part}" if part else ""
    with ExitStack() as stack:
        given = _models(arguments)
        print("loading", *given, flush=True)
        folders = [stack.enter_context(model_folder(path)) for path in given]
        sets = [read_model_set(folder) or ModelSet((folder,)) for folder in folders]
        predictors = [_predictor(arguments, sets, device) for device in _devices(arguments.device)]
        model = predictors[0].models[0]
        for each in predictors[0].models:
            axes = f"arrays in {each.orientation} ({each.orientation_source})"
            print(f"model {each.folder}: {each.trainer_name}, {len(each.parameters)} fold(s), {axes}")
        cases, words = find_cases(arguments.input, len(model.channel_names), "CT" if model.is_ct else None)
        print(*words, sep="\n", end="\n" if words else "")
        outputs = Outputs(
            output,
            model,
            VolumesTable(output / f"volumes{suffix}.csv"),
            save_probabilities=arguments.save_probabilities,
            dicom_seg=arguments.dicom_seg,
            preview=_preview(model.is_ct) if arguments.preview else None,
        )
        _refuse_overwriting(arguments.input, cases, outputs)
        cases = cases[number - 1 :: count]
        stack.enter_context(folder_lock(output, part))
        mark = models_mark(predictors[0].models, sets[0].largest_only if len(sets) == 1 else ())
        outputs.start(count == 1, mark, anew=None if arguments.resume or count > 1 else cases)
        todo = [case for case in cases if not (arguments.resume and outputs.is_done(case))]
        if len(todo) < len(cases):
            print(f"{len(cases) - len(todo)} of {len(cases)} cases are already done")
        start = time.monotonic()
        failed = FailedCases(output / f"failed{suffix}.csv")
        with _Progress(todo) as report:
            predict_cases(todo, predictors, outputs, failed, report, arguments.assume_orientation)
    if len(todo) > len(failed.rows):
        _write_costs(output / f"costs{suffix}.json", (time.monotonic() - start) / len(todo), predictors)
    for name, _, reason in failed.rows:
        print(f"failed {name}: {reason}", file=sys.stderr)
    print(f"{len(todo) - len(failed.rows)} of {len(todo)} cases written to {output}")
    return 1 if failed.rows else 0


def _write_costs(path: Path, seconds_per_case: float, predictors: "list[Predictor]") -> None:
    """Write what a case has cost, for ``unetr_nnunet report``."""
    import json
    import resource

    from unetr_nnunet.atomic import atomic_path

    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = {
        "seconds_per_case": round(seconds_per_case, 2),
        "peak_memory_gib": round(peak_kib / 2**20, 2),
        "device": ", ".join(str(predictor.device) for predictor in predictors),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(costs, indent=1), encoding="utf-8")


def _models(arguments: argparse.Namespace) -> list[Path]:
    from unetr_nnunet.nnunet.folders import find_model_folder

    if arguments.model:
        return list(arguments.model)
    if not (arguments.dataset and arguments.configuration):
        raise ValueError("no model: give its folder or zip with -m, or its data set and configuration with -d and -c")
    return [find_model_folder(arguments.dataset, arguments.configuration, arguments.trainer, arguments.plans)]


def _devices(wanted: str | None) -> list[str]:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *(f"cuda:{gpu}" for gpu in range(gpus))]
    if wanted not in (None, "cuda", *known):
        raise ValueError(f"--device {wanted}: no such device; available: {', '.join(known)}")
    if wanted not in (None, "cuda"):
        return [str(wanted)]
    if not gpus and wanted:
        raise ValueError("--device cuda: there is no GPU here (`unetr_nnunet doctor` tells more); leave it out")
    return [f"cuda:{gpu}" for gpu in range(gpus)] or ["cpu"]


def _predictor(arguments: argparse.Namespace, sets: "list[ModelSet]", device: str) -> "Predictor":
    from tqdm import tqdm

    from unetr_nnunet.inference.model import load_model
    from unetr_nnunet.inference.predictor import Predictor

    checkpoint = (arguments.checkpoint, arguments.trust_checkpoint)
    models = [load_model(path, arguments.folds or each.folds, *checkpoint) for each in sets for path in each.models]
    if len(sets) > 1 and any(each.largest_only for each in sets):
        print("several models are averaged, without the post-processing of each", flush=True)
        return Predictor(models, device, arguments.exact, arguments.output, tqdm.write)
    return Predictor(models, device, arguments.exact, arguments.output, tqdm.write, sets[0].postprocess)


def _preview(is_ct: bool) -> "Preview":
    from functools import partial

    from unetr_nnunet.images.overlay import draw_overlay

    return draw_overlay if is_ct else partial(draw_overlay, window=None)


def _refuse_overwriting(source: Path, cases: "list[Case]", outputs: "Outputs") -> None:
    """Refuse an output folder that holds inputs, or links to them, or whose masks a later run would take for CTs."""
    named = [path for case in cases for paths in case.channels for path in paths]
    inputs = {path.resolve() for path in named}
    folders = {source.resolve(), *(path.parent for path in inputs), *(path.parent.resolve() for path in named)}
    if outputs.folder.resolve() in folders:
        raise ValueError(f"{outputs.folder} holds inputs, which could be overwritten: choose another output folder")
    for path in (path for case in cases for path in outputs.paths(case)):
        if path.resolve() in inputs:
            raise ValueError(f"{path} is an input and would be overwritten: choose another output folder")


class _Progress:
    """A bar over all cases, with the remaining time."""

    def __init__(self, cases: "list[Case]") -> None:
        from threading import Lock

        from tqdm import tqdm

        self.lock, self.done = Lock(), {case.name: 0.0 for case in cases}
        layout = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        self.bar = tqdm(total=float(len(cases)), bar_format=layout, disable=not cases)

    def __enter__(self) -> "_Progress":
        return self

    def __call__(self, case: "Case", share: float) -> None:
        with self.lock:
            self.done[case.name] = share
            self.bar.n = min(self.bar.total, sum(self.done.values()))
            self.bar.update(0)
            finished = sum(value >= 1 for value in self.done.values())
            self.bar.set_description_str(f"{finished}/{len(self.done)} cases, {case.name} ", refresh=False)

    def __exit__(self, *error: object) -> None:
        self.bar.close()
