"""What share of broken inputs `unetr_nnunet predict` flags, and what share of good ones: phantoms and real CTs.

A Tiny modified UNETR is trained for some minutes, twice on one fold of the phantoms, and on two folds of the real CTs,
then predicts test cases as they are, and the same cases broken on purpose: a header that mirrors them or turns them
upside down, half of the slices cut off, HU shifted, and another body part. A case is flagged where ``quality.csv`` has
a flag of any of its organs or of itself.

    python -m benchmarks.quality_flags WORK --openkbp openkbp        WORK can be given again to continue

The phantoms are those of `unetr_nnunet phantom`, of two seeds. The real CTs are OpenKBP's
(github.com/ababier/open-kbp) as NIfTI: ``images/*.nii.gz``, ``labels/*.nii.gz`` and ``splits.json`` with "train" and
further lists of cases. A network with "FlipOnly" in its trainer's name learns from mirrored images and is averaged over
mirrored views, as in nnU-Net; one with "NoAug" knows every organ on its own side only.
"""

import argparse
import csv
import json
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from benchmarks.commands import run_once
from unetr_nnunet.atomic import write_json
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, trainer_folder

RESULTS = Path(__file__).parent / "results" / "quality_flags.md"
BROKEN_CASES = 10
GOOD_DICE = 0.5
"""A mask is good where no organ's Dice is lower."""
HEAD_NECK = {"brainstem": 1, "spinal_cord": 2, "right_parotid": 3, "left_parotid": 4, "mandible": 5}


@dataclass(frozen=True)
class DataSet:
    """A data set of the benchmark.

    Attributes:
        title: for the table.
        folder: of its files; holds nnU-Net's three folders.
        name: nnU-Net's.
        spacing_mm: of the network's grid.
        folds: that are trained.
        augmentation: of the trainer.
    """

    title: str
    folder: Path
    name: str
    spacing_mm: tuple[float, float, float]
    folds: tuple[str, ...]
    augmentation: str

    def trainer(self, epochs: int) -> str:
        """Return the trainer's name."""
        return f"nnUNetTrainerUNETR_Modified_Tiny_{self.augmentation}_{epochs}epochs_seed0"

    @property
    def number(self) -> str:
        """Its number."""
        return str(int(self.name[7:10]))

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the commands."""
        folders = {name: str(self.folder / name) for name in FOLDERS}
        return {"nnUNet_def_n_proc": "1", EXTERNAL_TRAINERS: str(trainer_folder()), **folders}

    @property
    def images(self) -> Path:
        """Test cases as they are."""
        return self.folder / "good"

    @property
    def truth(self) -> Path:
        """Their labels, under the same names."""
        return self.folder / "truth"


def mirror(image: sitk.Image) -> sitk.Image:
    """Return an image whose header says that left is right."""
    return _turned(image, axis=0)


def turn_over(image: sitk.Image) -> sitk.Image:
    """Return an image whose header says that the head is where the feet are."""
    return _turned(image, axis=2)


def _turned(image: sitk.Image, axis: int) -> sitk.Image:
    turned = sitk.Image(image)
    direction = np.reshape(image.GetDirection(), (3, 3)).copy()
    direction[axis] *= -1
    turned.SetDirection(direction.ravel().tolist())
    return turned


def halve(image: sitk.Image) -> sitk.Image:
    """Return the half of the slices with the higher numbers."""
    return image[:, :, image.GetSize()[2] // 2 :]


def shift(hu: int) -> Callable[[sitk.Image], sitk.Image]:
    """Return what adds a number to all values."""
    return lambda image: sitk.Cast(image, sitk.sitkFloat32) + hu


WAYS: dict[str, Callable[[sitk.Image], sitk.Image]] = {
    "header mirrored left to right": mirror,
    "header upside down": turn_over,
    "half of the slices cut off": halve,
    "HU shifted by +1024 (intercept lost)": shift(1024),
    "HU shifted by -150": shift(-150),
}


def train(data: DataSet, epochs: int) -> None:
    """Plan, preprocess and train, with nnU-Net's own commands."""
    run = data.environment
    plans = data.folder / "nnUNet_preprocessed" / data.name / "nnUNetPlans.json"
    run_once(data.folder, run, {"fingerprint": ("nnUNetv2_extract_fingerprint", "-d", data.number, "-np", "1")})
    run_once(data.folder, run, {"plan": ("nnUNetv2_plan_experiment", "-d", data.number)})
    content = json.loads(plans.read_text(encoding="utf-8"))
    content["configurations"]["demo"] = {
        "inherits_from": "3d_fullres",
        "data_identifier": "nnUNetPlans_demo",
        "spacing": list(data.spacing_mm),
        "patch_size": [32, 32, 32],
        "batch_size": 2,
        "batch_dice": True,  # a small patch lacks most organs
    }
    write_json(content, plans)
    run_once(data.folder, run, {"preprocess": ("nnUNetv2_preprocess", "-d", data.number, "-c", "demo", "-np", "1")})
    for fold in data.folds:
        options = (data.number, "demo", fold, "-tr", data.trainer(epochs), "-device", "cpu", "--c")
        run_once(data.folder, run, {f"train_{data.augmentation}_{fold}": ("nnUNetv2_train", *options)})


def phantoms(folder: Path) -> DataSet:
    """Make 30 training cases, and 40 test cases of two seeds."""
    data = DataSet("Phantoms", folder, "Dataset017_BTCV", (8.0, 6.0, 6.0), ("0",), "FlipOnly")
    for seed, training, testing in (("0", "30", "20"), ("1", "20", "0")):
        command = ("unetr_nnunet", "phantom", str(folder / f"seed_{seed}"), "--size", "demo", "--seed", seed)
        command += ("--training", training, "--testing", testing)
        run_once(folder, data.environment, {f"phantom_{seed}": command})
    source = str(folder / "seed_0" / "RawData")
    run_once(folder, data.environment, {"convert": ("unetr_nnunet", "convert", "btcv", source, "--overwrite")})
    for place in (data.images, data.truth):
        place.mkdir(exist_ok=True)
    raw = folder / "seed_1" / "RawData" / "Training"
    for seed, images, labels in (
        (0, folder / "seed_0" / "RawData" / "Testing" / "img", folder / "seed_0" / "Testing_labels"),
        (1, raw / "img", raw / "label"),
    ):
        for path in images.iterdir():
            shutil.copy(path, data.images / f"seed{seed}_{path.name}")
            shutil.copy(labels / path.name.replace("img", "label"), data.truth / f"seed{seed}_{path.name}")
    return data


def head_and_neck(folder: Path, source: Path) -> DataSet:
    """Lay real CTs out as nnU-Net does."""
    data = DataSet("Head and neck (OpenKBP)", folder, "Dataset301_HeadNeck", (3.0, 4.0, 4.0), ("0", "1"), "NoAug")
    raw = folder / "nnUNet_raw" / data.name
    splits = json.loads((source / "splits.json").read_text(encoding="utf-8"))
    for place in (raw / "imagesTr", raw / "labelsTr", data.images, data.truth):
        place.mkdir(parents=True, exist_ok=True)
    for case in splits["train"]:
        shutil.copy(source / "images" / f"{case}.nii.gz", raw / "imagesTr" / f"{case}_0000.nii.gz")
        shutil.copy(source / "labels" / f"{case}.nii.gz", raw / "labelsTr" / f"{case}.nii.gz")
    for case in (case for name, cases in splits.items() if name not in ("train", "official") for case in cases):
        shutil.copy(source / "images" / f"{case}.nii.gz", data.images / f"{case}.nii.gz")
        shutil.copy(source / "labels" / f"{case}.nii.gz", data.truth / f"{case}.nii.gz")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **HEAD_NECK},
        "numTraining": len(splits["train"]),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }
    write_json(description, raw / "dataset.json")
    return data


def break_cases(data: DataSet, other: DataSet | None) -> dict[str, Path]:
    """Write the broken cases and return their folders."""
    folders = {}
    some = sorted(data.images.iterdir())[:BROKEN_CASES]
    for number, (way, change) in enumerate(WAYS.items()):
        folders[way] = data.folder / f"broken_{number}"
        folders[way].mkdir(exist_ok=True)
        for path in some:
            target = folders[way] / path.name
            if not target.is_file():
                sitk.WriteImage(change(sitk.ReadImage(str(path))), str(target))
    if other is not None:
        way = "another body part"
        folders[way] = data.folder / "broken_part"
        folders[way].mkdir(exist_ok=True)
        for path in sorted(other.images.iterdir())[:BROKEN_CASES]:
            shutil.copy(path, folders[way] / path.name)
    return folders


def flags_of(data: DataSet, cases: Path, epochs: int) -> dict[str, list[str]]:
    """Predict a folder, and return the flags of each case."""
    output = data.folder / f"predicted_{data.augmentation}_{cases.name}"
    model = data.folder / "nnUNet_results" / data.name / f"{data.trainer(epochs)}__nnUNetPlans__demo"
    command = ("unetr_nnunet", "predict", "-i", str(cases), "-o", str(output), "-m", str(model), "--device", "cpu")
    command += ("--fast",)
    run_once(data.folder, data.environment, {output.name: command})
    flags: dict[str, list[str]] = {}
    with (output / "quality.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            flags.setdefault(row["case"], []).extend([f"{row['organ']}: {row['flags']}"] if row["flags"] else [])
    return flags


def lowest_dice(data: DataSet) -> dict[str, float]:
    """Return the lowest Dice of any organ of each case that is as it is."""
    cases = evaluate_folder(data.folder / f"predicted_{data.augmentation}_{data.images.name}", data.truth).cases
    values = {
        name: [score.dice for score in case.organs.values() if score.dice is not None] for name, case in cases.items()
    }
    return {name: float(np.nanmin(dice)) for name, dice in values.items()}


def kinds(reasons: list[str]) -> list[str]:
    """Return the kinds of flags among a case's reasons, numbers and names left out."""
    known = ("mirrored", "upside down", "front and back", "nothing was found", "empty", "border", "volume", "HU")
    known += ("part", "probability", "folds disagree", "lies")
    text = " ".join(reasons)
    return [kind for kind in known if re.search(rf"\b{kind}", text)]


def row(way: str, flags: dict[str, list[str]]) -> str:
    """Return a line of a table: how many cases are flagged, and by what."""
    flagged = [reasons for reasons in flags.values() if reasons]
    tally = Counter(kind for reasons in flagged for kind in kinds(reasons))
    shown = ", ".join(f"{kind} {number}" for kind, number in tally.most_common())
    return f"| {way} | {len(flags)} | {len(flagged)} ({len(flagged) / max(len(flags), 1):.0%}) | {shown} |"


def measure(data: DataSet, other: DataSet | None, epochs: int) -> tuple[list[str], bool]:
    """Return a table of one data set, and whether at most one good case in twenty is flagged."""
    folds = f"{len(data.folds)} fold{'s' * (len(data.folds) > 1)}"
    grid = " x ".join(f"{side:g}" for side in data.spacing_mm)
    lines = [f"## {data.title}", "", f"`{data.trainer(epochs)}`, {folds}, voxels of {grid} mm.", ""]
    lines += ["| input | cases | flagged | of them by |", "|---|---|---|---|"]
    flags = flags_of(data, data.images, epochs)
    dice = lowest_dice(data)
    good = {case: reasons for case, reasons in flags.items() if dice[case] >= GOOD_DICE}
    lines.append(row("as it is, good mask", good))
    lines.append(row("as it is, poor mask", {case: reasons for case, reasons in flags.items() if case not in good}))
    lines += [row(way, flags_of(data, folder, epochs)) for way, folder in break_cases(data, other).items()]
    examples = [f"- lowest Dice {dice[case]:.2f}: {'; '.join(reasons)}" for case, reasons in flags.items() if reasons]
    lines += ["", "Flags of the cases as they are:", "", *(examples or ["- none"]), ""]
    return lines, sum(map(bool, good.values())) <= len(good) / 20


def main() -> int:
    """Run, write the table, and return 1 where too many good cases are flagged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for all files")
    parser.add_argument("--openkbp", type=Path, metavar="FOLDER", help="real CTs (default: phantoms only)")
    parser.add_argument("--epochs", type=int, default=5, help="length of each training, 250 iterations each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    abdomen = phantoms(work / "phantom")
    head = head_and_neck(work / "headneck", arguments.openkbp.resolve()) if arguments.openkbp else None
    sets = [(abdomen, head), (replace(abdomen, augmentation="NoAug"), head)]
    sets += [(head, abdomen)] if head else []
    lines, fine = [], True
    for data, other in sets:
        train(data, arguments.epochs)
        table, few = measure(data, other, arguments.epochs)
        lines, fine = [*lines, *table], fine and few
    heading = [
        "# Which masks to look at: what is flagged",
        "",
        f"Made by `python -m benchmarks.quality_flags` on {date.today()}: {platform.machine()}, Python "
        f"{platform.python_version()}, torch {version('torch')}, no GPU.",
        "",
        f"A mask is called good where no organ's Dice is below {GOOD_DICE}. The broken inputs are the first of those "
        "as they are. All are predicted with `--fast`. Asked for: at most 1 good mask in 20 is flagged: "
        f"{'reached' if fine else 'NOT reached'}. A case can have several kinds of flags.",
        "",
    ]
    arguments.results.write_text("\n".join([*heading, *lines]), encoding="utf-8")
    print("\n".join(lines))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
