"""Compare ``unetr_nnunet predict`` with ``nnUNetv2_predict``: time, memory and agreement, as a Markdown table.

Each command is run whole, in a fresh process, on the same model folder, folds and image: nnU-Net's (with one worker
for reading and one for writing, as fits the machine), and ours by default, with ``--fast`` and with ``--exact``. They
take turns, and medians over the rounds are given. Memory is the largest sum over a command's processes, sampled every
50 ms. The split is measured once more inside one process each, for ours. The table is written after every row.

Models of the sizes that people use are made on the spot, with random weights, which are as fast as trained ones. Their
label maps are noise, most of it background: `--fast` finds something everywhere and runs its second pass in full, every
organ has to be resampled over the whole image, and the agreement says little. They would also find something in the air
around the patient, where `predict` then looks again, so the CT is cropped to what is not air. `--model` takes trained
models instead, for the whole CT; with a label map, Dice is given too.

    python benchmarks/predict_speed.py --case phantom=CT.nii.gz --network modified --patch 48x192x192
    python benchmarks/predict_speed.py --case phantom=CT.nii.gz=LABEL.nii.gz --model UNETR=MODEL_FOLDER
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk
import torch

from benchmarks.untrained_models import NETWORKS, SPACINGS_MM, write_untrained
from unetr_nnunet.experiments.steps import program
from unetr_nnunet.inference.body import MARGIN_MM, body_box
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder
from unetr_nnunet.trainers.precision import cpu_has_bfloat16

RESULTS = Path(__file__).parent / "results" / "predict_speed_full_size.md"
WAYS = ("stock", "default", "--fast", "--exact")
GIB = 2**30


def command(way: str, model: Path, source: Path, target: Path) -> tuple[str, ...]:
    """Return the words of one way to predict a folder on the CPU."""
    folders = ("-i", str(source), "-o", str(target), "-m", str(model))
    if way == "stock":
        folds = sorted(path.name.removeprefix("fold_") for path in model.glob("fold_*"))
        words = ("-f", *folds, "-device", "cpu", "-npp", "1", "-nps", "1")
        return program("nnUNetv2_predict_from_modelfolder", *folders, *words)
    return program("unetr_nnunet", "predict", *folders, "--device", "cpu", *([way] if way.startswith("--") else []))


def run(words: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its seconds and the GiB that its processes took together at most."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=os.environ | environment)
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [tree, *tree.children(recursive=True)]
                peak = max(peak, sum(each.memory_info().rss for each in family if each.is_running()))
            except psutil.Error:  # it has just ended
                pass
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(words)} failed:\n{log.read()[-2000:]}")
    return seconds, peak / GIB


def dice(mask: Path, truth: Path) -> dict[int, float]:
    """Return the Dice of each label of the truth."""
    predicted, true = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (mask, truth))
    found = {}
    for label in np.unique(true[true > 0]):
        here, there = predicted == label, true == label
        found[int(label)] = 2 * int((here & there).sum()) / int(here.sum() + there.sum())
    return found


SPLIT = """
import json, sys, time
from pathlib import Path
way, model, image, mask = sys.argv[1:]
seconds = {}
def timed(owner, name, what):
    real = getattr(owner, name)
    def measured(*words, **named):
        start = time.perf_counter()
        try:
            return real(*words, **named)
        finally:
            seconds[what] = seconds.get(what, 0) + time.perf_counter() - start
    setattr(owner, name, measured)
from unetr_nnunet.inference import label_map, predictor, sliding_window
from unetr_nnunet.images.cases import find_cases
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.images.label_maps import write_mask
from unetr_nnunet.images.read import read_case
timed(predictor, "prepare", "preprocess")
timed(sliding_window.SlidingWindow, "run", "network")
timed(label_map.LogitsOnImage, "label_map", "resample")
(case,), _ = find_cases(Path(image), 1, None)
start = time.perf_counter()
channels = read_case(case)
seconds["read"] = time.perf_counter() - start
found = predictor.Predictor([load_model(Path(model), None)], fidelity=way.removeprefix("--")).predict(channels)
start = time.perf_counter()
write_mask(found, Path(mask))
seconds["write"] = time.perf_counter() - start
print(json.dumps(seconds))
"""
STAGES = ("read", "preprocess", "network", "resample", "write")


def split(way: str, model: Path, image: Path, work: Path, environment: dict[str, str]) -> dict[str, float]:
    """Return the seconds of each stage of a prediction."""
    words = [sys.executable, "-W", "ignore", "-c", SPLIT, way, str(model), str(image), str(work / "split.nii.gz")]
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


class Bench:
    """Runs the commands in a work folder."""

    def __init__(self, work: Path, rounds: int, ways: Sequence[str] = WAYS) -> None:
        self.work, self.rounds, self.ways = work, rounds, ways
        self.environment = {EXTERNAL_TRAINERS: str(trainer_folder()), "nnUNet_compile": "f"}

    def input_folder(self, name: str, files: dict[str, Callable[[Path], object]]) -> Path:
        """Return a folder with files that the given functions write."""
        folder = self.work / "in" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, write in files.items():
            write(folder / file)
        return folder

    def measure(self, model: Path, source: Path) -> dict[str, tuple[float, float, Path]]:
        """Return median seconds, GiB and output folder of each way, run in turn."""
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in self.ways}
        for _ in range(self.rounds):
            for way in self.ways:
                target = self.work / "out" / way
                shutil.rmtree(target, ignore_errors=True)
                found[way].append(run(command(way, model, source, target), self.environment))
                print(f"{source.name}: {way} {found[way][-1][0]:.1f} s {found[way][-1][1]:.2f} GiB", flush=True)
        return {
            way: (statistics.median(s for s, _ in values), max(g for _, g in values), self.work / "out" / way)
            for way, values in found.items()
        }


def compare(bench: Bench, model_name: str, model: Path, case: str, image: Path, truth: Path | None) -> list[str]:
    """Return the lines on one model and one image."""
    source = bench.input_folder(case, {"case_0000.nii.gz": lambda path: shutil.copy(image, path)})
    measured = bench.measure(model, source)
    masks = {way: folder / "case.nii.gz" for way, (_, _, folder) in measured.items()}
    voxels = {way: sitk.GetArrayFromImage(sitk.ReadImage(str(mask))) for way, mask in masks.items()}
    scores = {way: dice(mask, truth) if truth else {} for way, mask in masks.items()}
    columns = [
        "",
        "seconds",
        "times faster",
        "GiB",
        "of stock's",
        "agreement",
        "mean Dice",
        "largest difference",
        *STAGES,
        "other",
    ]
    lines = [f"## {model_name}, {case}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for way, (seconds, gib, _) in measured.items():
        own, base = scores[way], scores["stock"]
        stages = split(way, model, source / "case_0000.nii.gz", bench.work, bench.environment) if way != "stock" else {}
        cells = [
            way,
            f"{seconds:.1f}",
            f"{measured['stock'][0] / seconds:.2f}",
            f"{gib:.2f}",
            f"{gib / measured['stock'][1]:.2f}",
            f"{np.mean(voxels[way] == voxels['stock']):.5f}",
            f"{statistics.fmean(own.values()):.4f}" if own else "",
            f"{max((own[label] - base[label] for label in own), key=abs):+.4f}" if own else "",
            *(f"{stages[stage]:.1f}" if stages else "" for stage in STAGES),
            f"{max(0.0, seconds - sum(stages.values())):.1f}" if stages else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def without_air(image: Path, target: Path) -> Path:
    """Write an image cropped to what is not air, without the margin of `body_box`; return its path."""
    ct = sitk.ReadImage(str(image))
    spacing_mm = ct.GetSpacing()[::-1]
    box = []
    for span, length, spacing in zip(
        body_box(sitk.GetArrayViewFromImage(ct), spacing_mm), ct.GetSize()[::-1], spacing_mm, strict=True
    ):
        margin = ceil(MARGIN_MM / spacing)
        box.append(
            slice(span.start + margin if span.start else 0, span.stop - margin if span.stop < length else length)
        )
    sitk.WriteImage(ct[tuple(box[::-1])], str(target))
    return target


def machine() -> str:
    """Return processor, threads and torch in words."""
    processor = f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return f"{processor}{', bfloat16' if cpu_has_bfloat16() else ''}, torch {torch.__version__}"


def _grid(text: str) -> tuple[int, ...]:
    return tuple(int(length) for length in text.split("x"))


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", required=True, metavar="NAME=CT[=LABEL]")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--network", action="append", default=[], choices=NETWORKS)
    parser.add_argument("--patch", action="append", type=_grid, choices=SPACINGS_MM, metavar="ZxYxX")
    parser.add_argument("--mirroring", action="append", choices=("with", "without"))
    parser.add_argument("--folds", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", action="append", choices=WAYS, help="besides stock; all without")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cases = [text.split("=") for text in arguments.case]
    models = {name: Path(folder) for name, folder in (text.split("=") for text in arguments.model)}
    for path in [*models.values(), *(Path(file) for _, *files in cases for file in files)]:
        if not path.exists():
            parser.error(f"{path} does not exist")
    lines = [
        "# unetr_nnunet predict beside nnUNetv2_predict",
        "",
        f"Written by `benchmarks/predict_speed.py`, whose docstring says how, on {datetime.date.today()}: {machine()}, "
        f"nnunetv2 {version('nnunetv2')}, {arguments.rounds} rounds. Seconds of read to write are of one run in one "
        "process; the rest is other: start-up, imports, quality of the masks.",
        "",
    ]
    with tempfile.TemporaryDirectory() as work:
        ways = WAYS if not arguments.way else ("stock", *(way for way in WAYS[1:] if way in arguments.way))
        bench = Bench(Path(work), arguments.rounds, ways)
        untrained: dict[str, Path] = {}
        sizes = product(
            arguments.network,
            arguments.patch or SPACINGS_MM,
            arguments.mirroring or ("without", "with"),
            arguments.folds or (1, 5),
        )
        for network, patch, mirroring, folds in sizes:
            name = f"{NETWORKS[network].title}, {'x'.join(map(str, patch))}, {mirroring} mirroring, {folds} fold(s)"
            folder = Path(work) / "models" / f"{network} {patch} {mirroring} {folds}"
            untrained[name] = write_untrained(folder, NETWORKS[network], patch, mirroring == "with", folds)
        cropped = {name: without_air(Path(image), Path(work) / f"{name}.nii.gz") for name, image, *_ in cases}
        for model_name, model in (untrained | models).items():
            for name, image, *truth in cases:
                is_trained = model_name not in untrained
                label = Path(truth[0]) if truth and is_trained else None
                lines += compare(bench, model_name, model, name, Path(image) if is_trained else cropped[name], label)
                arguments.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
