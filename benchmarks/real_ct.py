"""The whole chain on real CTs: can it remember one, and do masks come back in each image's own geometry?

A BTCV-layout download is built from the labelled abdomen CT (stored RAS, 3 mm), converted, planned and preprocessed by
the stock commands, and learnt by heart (fold ``all``) by a Tiny modified UNETR. The model then predicts that CT and a
DICOM slab of another patient (stored LPS, 0.98 x 0.98 x 2 mm), converted to NIfTI. This is a memory test of every stage
on real input. It says nothing about accuracy: the only case is seen in training.

    python -m benchmarks.real_ct --data real_ct WORK         WORK can be given again to continue

The data folder holds ``abdomen_3mm/{ct,label}.nii.gz`` (BTCV label ids) and ``upper_abdomen_slab/dicom/*.dcm``.
"""

import argparse
import json
import platform
import shutil
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from benchmarks.commands import run_once
from unetr_nnunet.atomic import write_json
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.model_results import read_model
from unetr_nnunet.images.overlay import draw_overlay
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, trainer_folder
from unetr_nnunet.report.page import write_report

DATASET, CONFIGURATION = "Dataset017_BTCV", "demo"
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "real_ct"
RESULTS = Path(__file__).parent / "results" / "real_ct.md"
PICTURE = Path(__file__).parent / "results" / "real_ct.png"
REPORT = Path(__file__).parent.parent / "docs" / "reports" / "real_ct.html"
REMEMBERED_DICE = 0.9
LARGE_ORGAN_VOXELS = 1000
CASE, SLAB = "BTCV_0001", "slab"


def build_download(data: Path, download: Path) -> None:
    """Lay the labelled CT out as BTCV does."""
    for kind, source in (("img", "ct"), ("label", "label")):
        target = download / "RawData" / "Training" / kind / f"{kind}0001.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / "abdomen_3mm" / f"{source}.nii.gz", target)


def gather_inputs(data: Path, folder: Path) -> None:
    """Write both CTs, the DICOM series as NIfTI, under the names that nnU-Net expects."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data / "abdomen_3mm" / "ct.nii.gz", folder / f"{CASE}_0000.nii.gz")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data / "upper_abdomen_slab" / "dicom")))
    sitk.WriteImage(reader.Execute(), str(folder / f"{SLAB}_0000.nii.gz"))


def run_chain(data: Path, work: Path, trainer: str, patch_size: tuple[int, int, int]) -> float:
    """Convert, plan, train and predict with the stock commands, and return the seconds it took."""
    if not (data / "abdomen_3mm").is_dir():
        raise ValueError(f"{data} holds no abdomen_3mm folder; name the folder of the two CTs with --data")
    environment = {
        "nnUNet_def_n_proc": "2",
        EXTERNAL_TRAINERS: str(trainer_folder()),
        **{name: str(work / name) for name in FOLDERS},
    }
    build_download(data, work / "download")
    gather_inputs(data, work / "inputs")
    plans = work / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    start = time.perf_counter()
    source = str(work / "download" / "RawData")
    run_once(work, environment, {"convert": ("unetr_nnunet", "convert", "btcv", source, "--overwrite")})
    options = ("-d", "17", "-c", "3d_fullres", "-np", "1", "-npfp", "1")
    run_once(work, environment, {"plan": ("nnUNetv2_plan_and_preprocess", *options)})
    add_configuration(plans, patch_size)
    options = ("17", CONFIGURATION, "all", "-tr", trainer, "-device", "cpu", "--c")
    run_once(work, environment, {f"train_{'x'.join(map(str, patch_size))}": ("nnUNetv2_train", *options)})
    model = ("-c", CONFIGURATION, "-tr", trainer, "-d", "17", "-f", "all")
    folders = ("-i", str(work / "inputs"), "-o", str(work / "predictions"))
    run_once(
        work,
        environment,
        {"predict": ("nnUNetv2_predict", *model, *folders, "-device", "cpu", "-npp", "1", "-nps", "1")},
    )
    return time.perf_counter() - start


def add_configuration(plans_file: Path, patch_size: tuple[int, int, int]) -> None:
    """Add a configuration with small patches, whose Dice is over the batch: a small patch lacks most organs."""
    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    small = {"inherits_from": "3d_fullres", "patch_size": list(patch_size), "batch_size": 2, "batch_dice": True}
    plans["configurations"][CONFIGURATION] = small
    write_json(plans, plans_file)


def geometry_differences(image: sitk.Image, mask: sitk.Image) -> list[str]:
    """Return what differs between the grids of an image and its mask; nothing where the mask came back right."""
    differences = [] if image.GetSize() == mask.GetSize() else ["size"]
    for name, tolerance in (("Spacing", 1e-4), ("Origin", 1e-3), ("Direction", 1e-5)):
        pair = [getattr(volume, f"Get{name}")() for volume in (image, mask)]
        if not np.allclose(*pair, atol=tolerance):
            differences.append(name.lower())
    return differences


def measure(data: Path, work: Path) -> tuple[list[str], bool]:
    """Return the result table's lines, and whether everything that was asked for holds."""
    (work / "truth").mkdir(exist_ok=True)
    shutil.copyfile(data / "abdomen_3mm" / "label.nii.gz", work / "truth" / f"{CASE}.nii.gz")
    scores = evaluate_folder(work / "predictions", work / "truth").cases[CASE].organs
    lines = ["| organ | voxels | Dice |", "|---|---|---|"]
    remembered = True
    for organ, score in scores.items():
        voxels = int(score.truth_voxels)
        required = voxels >= LARGE_ORGAN_VOXELS
        remembered &= not required or score.dice >= REMEMBERED_DICE
        shown = f"{score['dice']:.3f}" if voxels else "not in this CT"
        lines.append(
            f"| {organ.replace('_', ' ')}{'' if required or not voxels else ' (small)'} | {voxels} | {shown} |"
        )
    lines += ["", "| image | size (x, y, z) | spacing (mm) | orientation | mask comes back in its geometry |"]
    lines += ["|---|---|---|---|---|"]
    for name in (CASE, SLAB):
        image = sitk.ReadImage(str(work / "inputs" / f"{name}_0000.nii.gz"))
        differences = geometry_differences(image, sitk.ReadImage(str(work / "predictions" / f"{name}.nii.gz")))
        remembered &= not differences
        orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
        spacing = " x ".join(f"{value:.3g}" for value in image.GetSpacing())
        answer = f"no: {', '.join(differences)}" if differences else "yes"
        lines.append(f"| {name} | {image.GetSize()} | {spacing} | {orientation} | {answer} |")
    return lines, remembered


def report(work: Path, trainer: str, target: Path) -> None:
    """Write the page of ``unetr_nnunet report``, without pictures; names of files in it are relative to the folder."""
    model = read_model(work / "predictions", work / "truth", name=trainer)
    write_report(
        [model],
        target,
        training={trainer: work / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__{CONFIGURATION}"},
        title="One real CT, remembered",
        command=["python", "-m", "benchmarks.real_ct", "WORK"],
        most_worst_cases=0,
    )
    target.write_text(target.read_text(encoding="utf-8").replace(str(work), "WORK"), encoding="utf-8")


def main() -> int:
    """Run, write table and picture, and return 1 where the CT was not remembered or a geometry differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for all files")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder of the two CTs")
    parser.add_argument("--epochs", type=int, default=8, help="length of the training, 250 iterations each")
    parser.add_argument("--patch-size", type=int, nargs=3, default=(32, 32, 32), metavar=("Z", "Y", "X"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--report", type=Path, default=REPORT)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    trainer = f"nnUNetTrainerUNETR_Modified_Tiny_NoAug_{arguments.epochs}epochs_seed0"
    seconds = run_chain(arguments.data.resolve(), work, trainer, tuple(arguments.patch_size))
    lines, remembered = measure(arguments.data, work)
    ct = sitk.ReadImage(str(work / "inputs" / f"{CASE}_0000.nii.gz"))
    label, remembered_mask = (sitk.ReadImage(str(work / kind / f"{CASE}.nii.gz")) for kind in ("truth", "predictions"))
    draw_overlay(ct, {"label": label, "remembered": remembered_mask}, arguments.picture)
    heading = [
        "# One real CT, remembered",
        "",
        f"Made by `python -m benchmarks.real_ct` on {date.today()}: {platform.processor() or platform.machine()}, "
        f"Python {platform.python_version()}, torch {version('torch')}, nnunetv2 {version('nnunetv2')}, no GPU. "
        f"Trainer `{trainer}`, patch {' x '.join(map(str, arguments.patch_size))}, batch 2, fold `all`; "
        f"{seconds / 60:.0f} minutes from the download to the masks (steps done in an earlier run not counted).",
        "",
        "A memory test of the whole chain on real data: the CT that is predicted was trained on. It says "
        "nothing about accuracy on other patients. The CTs are test data of TotalSegmentator "
        "(github.com/wasserth/TotalSegmentator, Apache-2.0), and so are the labels, its own predictions.",
        f"Asked for: Dice of at least {REMEMBERED_DICE} for every organ of at least {LARGE_ORGAN_VOXELS} voxels, and "
        f"masks in each image's own geometry: {'reached' if remembered else 'NOT reached'}.",
        "",
    ]
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text("\n".join([*heading, *lines, ""]), encoding="utf-8")
    report(work, trainer, arguments.report)
    print("\n".join(lines))
    return 0 if remembered else 1


if __name__ == "__main__":
    sys.exit(main())
