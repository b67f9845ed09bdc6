"""Segment CTs with trained models: any file format, any orientation; a bad input fails only its own case.

example:
  unetr_nnunet predict -i cts/ -o masks/ -m nnUNet_results/Dataset017_BTCV/nnUNetTrainerUNETR__nnUNetPlans__3d_fullres
  unetr_nnunet predict -i dicom/ -o masks/ -d 17 -c 3d_fullres -tr nnUNetTrainerUNETR -f 0 1 2 3 4 --preview
  unetr_nnunet predict -i cts/ -o masks/ -m model.zip --part 2/8 --resume       one job of a job array

The result is nnU-Net's, but for rounding: every window, mirrored view and fold; only the air around the patient is left
out. INPUT is a file (.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd), a folder of them, or a tree of DICOM series. Every model
folder of nnU-Net v2 will do. OUTPUT receives a label map (.nii.gz) for each case in its own geometry, volumes.csv,
quality.csv (which masks to look at, and why), run.json (versions, models, costs), and label names and colours for
ITK-SNAP and 3D Slicer. If a case fails, failed.csv lists it with the reason and the exit code is 1.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unetr_nnunet.images.cases import Case
    from unetr_nnunet.inference.folder import Report

FAST_WARNING = (
    "--fast: half of the mirrored views, and no second look where each fold's first pass finds nothing; it may miss "
    "what is small or seen by few windows"
)


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
        action="extend",
        metavar="MODEL",
        help="model folder or zip, or the best_model of a crossval; several are averaged",
    )
    model.add_argument("-d", "--dataset", metavar="ID", help="data set number or name in nnUNet_results")
    model.add_argument("-c", "--configuration", help="such as 3d_fullres")
    model.add_argument("-tr", "--trainer", default="nnUNetTrainer", help="trainer name (default: %(default)s)")
    model.add_argument("-p", "--plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    model.add_argument(
        "-f", "--folds", nargs="+", action="extend", metavar="FOLD", help="folds to average (default: all)"
    )
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
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--exact", action="store_true", help="compute exactly as nnUNetv2_predict does; slower")
    effort.add_argument(
        "--fast", action="store_true", help="take shortcuts that may miss what is small or seen by few windows"
    )
    parser.add_argument("--disable-tta", action="store_true", help="no mirrored views, as in nnUNetv2_predict")
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
    from unetr_nnunet.inference.fidelity import Fidelity
    from unetr_nnunet.inference.prediction import PredictionSettings, predict_folder

    models = _models(arguments)
    print("loading", *models, flush=True)
    fidelity = Fidelity.EXACT if arguments.exact else Fidelity.FAST if arguments.fast else Fidelity.DEFAULT
    if fidelity is Fidelity.FAST:
        print(FAST_WARNING, flush=True)
    settings = PredictionSettings(
        folds=tuple(arguments.folds) if arguments.folds else None,
        checkpoint=arguments.checkpoint,
        trust_checkpoint=arguments.trust_checkpoint,
        device=arguments.device,
        fidelity=fidelity,
        mirroring=not arguments.disable_tta,
        assumed_orientation=arguments.assume_orientation,
        resume=arguments.resume,
        part=arguments.part,
        preview=arguments.preview,
        dicom_seg=arguments.dicom_seg,
        save_probabilities=arguments.save_probabilities,
    )
    with _Progress() as progress:
        summary = predict_folder(arguments.input, arguments.output, models, settings, progress.of)
    for name, _, reason in summary.failed:
        print(f"failed {name}: {reason}", file=sys.stderr)
    total = summary.written + len(summary.failed)
    print(f"{summary.written} of {total} cases written to {arguments.output}")
    if summary.to_look_at:
        print(summary.to_look_at)
    return 1 if summary.failed else 0


def _models(arguments: argparse.Namespace) -> list[Path]:
    from unetr_nnunet.nnunet.folders import find_model_folder

    if arguments.model and (arguments.dataset or arguments.configuration):
        raise ValueError("give the model either with -m, or with -d and -c")
    if arguments.model:
        return list(arguments.model)
    if not (arguments.dataset and arguments.configuration):
        raise ValueError("no model: give its folder or zip with -m, or its data set and configuration with -d and -c")
    return [find_model_folder(arguments.dataset, arguments.configuration, arguments.trainer, arguments.plans)]


class _Progress:
    """A bar over all cases, with the remaining time; what is logged meanwhile appears above it, with its case."""

    def __init__(self) -> None:
        from contextlib import ExitStack
        from threading import Lock

        self.lock, self.stack = Lock(), ExitStack()

    def of(self, cases: "Sequence[Case]") -> "Report":
        """Start the bar."""
        import logging

        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        from unetr_nnunet.inference.folder import CURRENT_CASE

        def name_the_case(record: logging.LogRecord) -> bool:
            if case := CURRENT_CASE.get():
                record.msg, record.args = f"{case}: {record.getMessage()}", ()
            return True

        self.done = {case.name: 0.0 for case in cases}
        layout = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        logger = logging.getLogger("unetr_nnunet")
        self.stack.enter_context(logging_redirect_tqdm([logger]))
        for handler in logger.handlers:
            handler.addFilter(name_the_case)
            self.stack.callback(handler.removeFilter, name_the_case)
        self.bar = self.stack.enter_context(tqdm(total=float(len(cases)), bar_format=layout, disable=not cases))
        return self

    def __call__(self, case: "Case", share: float) -> None:
        with self.lock:
            self.done[case.name] = share
            self.bar.n = min(self.bar.total, sum(self.done.values()))
            self.bar.update(0)
            finished = sum(value >= 1 for value in self.done.values())
            self.bar.set_description_str(f"{finished}/{len(self.done)} cases, {case.name} ", refresh=False)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()
