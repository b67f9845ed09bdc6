"""`case_metrics` against what else computes HD95 and surface Dice, on one full-size case with 13 organs.

Truth is a label map of the phantom (`unetr_nnunet phantom --size full`); the prediction is truth, bent smoothly by some
voxels, with a missed gallbladder and part of one kidney called the other; and the same with strays all over the image,
as a network leaves them that was trained too short, for MONAI and ours only. Each way runs on one thread in a fresh
process and gets the label maps in memory; reading is not part of it. Processor seconds are what is compared, because
they hardly depend on what else the machine does.

    python benchmarks/metrics_speed.py --label phantom/RawData/Training/label/label0002.nii.gz

The ways other than ours need MONAI, surface-distance (both in the `dev` extra or required) and edt (`pip install edt`).
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "metrics_speed.md"
TOLERANCE_MM = 1.0
LABELS = range(1, 14)
Volume = Any
Figures = dict[str, list[float]]
SCENES = {"bent": 0, "bent, with strays": 40}


def ours(truth: Volume, predicted: Volume, spacing_mm: tuple[float, ...]) -> Callable[[], Figures]:
    """Return `case_metrics`: all 17 figures of each organ."""
    from unetr_nnunet.evaluation.case_metrics import case_metrics
    from unetr_nnunet.evaluation.protocols import RULES

    columns = {str(label): (label,) for label in LABELS}
    tolerances = dict.fromkeys(columns, TOLERANCE_MM)

    def measure() -> Figures:
        scores = case_metrics(truth, predicted, columns, spacing_mm, tolerances, RULES["nnunet"]).values()
        return {
            "hd95": [figures.hd95_mm for figures in scores],
            "nsd": [figures.nsd for figures in scores],
            "dice": [figures.dice for figures in scores],
        }

    return measure


def monai(
    truth: Volume, predicted: Volume, spacing_mm: tuple[float, ...], use_subvoxels: bool = False
) -> Callable[[], Figures]:
    """Return MONAI's HausdorffDistanceMetric and SurfaceDiceMetric on one-hot tensors, as its users call them."""
    import torch
    from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric

    torch.set_num_threads(1)
    hausdorff = HausdorffDistanceMetric(percentile=95, reduction="none")
    surface = SurfaceDiceMetric([TOLERANCE_MM] * len(LABELS), reduction="none", use_subvoxels=use_subvoxels)

    def measure() -> Figures:
        sides = [
            torch.stack([torch.from_numpy(side == label) for label in (0, *LABELS)])[None]
            for side in (predicted, truth)
        ]
        hd95 = hausdorff(*sides, spacing=spacing_mm)[0].tolist()
        return {"hd95": hd95, "nsd": surface(*sides, spacing=spacing_mm)[0].tolist()}

    return measure


def surface_distance(truth: Volume, predicted: Volume, spacing_mm: tuple[float, ...]) -> Callable[[], Figures]:
    """Return the surface-distance package: HD95 by area and surface Dice, from one call an organ."""
    import surface_distance as package

    def measure() -> Figures:
        figures: Figures = {"nsd": []}
        for label in LABELS:
            masks = truth == label, predicted == label
            if not (masks[0].any() and masks[1].any()):  # it fails there under NumPy 2
                figures["nsd"].append(0.0)
                continue
            distances = package.compute_surface_distances(*masks, spacing_mm)
            package.compute_robust_hausdorff(distances, 95)
            figures["nsd"].append(float(package.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)))
        return figures

    return measure


def simpleitk(truth: Volume, predicted: Volume, spacing_mm: tuple[float, ...]) -> Callable[[], Figures]:
    """Return SimpleITK's contours and distance maps: HD95 only."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def measure() -> Figures:
        images = [sitk.GetImageFromArray(side) for side in (truth, predicted)]
        for image in images:
            image.SetSpacing(spacing_mm[::-1])
        hd95 = []
        for label in LABELS:
            contours = [sitk.BinaryContour(image == label, fullyConnected=False) for image in images]
            arrays = [sitk.GetArrayFromImage(contour) > 0 for contour in contours]
            if not all(array.any() for array in arrays):
                hd95.append(float("nan"))
                continue
            maps = [sitk.SignedMaurerDistanceMap(contour, False, False, True) for contour in contours]
            directed = (np.abs(sitk.GetArrayFromImage(maps[1 - side])[arrays[side]]) for side in (0, 1))
            hd95.append(float(max(np.percentile(distances, 95) for distances in directed)))
        return {"hd95": hd95}

    return measure


def edt_in_boxes(truth: Volume, predicted: Volume, spacing_mm: tuple[float, ...]) -> Callable[[], Figures]:
    """Return distance transforms of the edt package in the bounding box of each organ: HD95 only."""
    import edt
    from scipy import ndimage

    def measure() -> Figures:
        boxes = [ndimage.find_objects(side, max_label=max(LABELS)) for side in (truth, predicted)]
        hd95 = []
        for label in LABELS:
            pair = [found[label - 1] for found in boxes]
            if None in pair:
                hd95.append(float("nan"))
                continue
            box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(*pair, strict=True))
            masks = [np.pad(side[box] == label, 1) for side in (truth, predicted)]
            edges = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
            directed = (edt.edt(~edges[1 - side], anisotropy=spacing_mm, parallel=1)[edges[side]] for side in (0, 1))
            hd95.append(float(max(np.percentile(distances, 95) for distances in directed)))
        return {"hd95": hd95}

    return measure


WAYS: dict[str, tuple[Callable[..., Callable[[], Figures]], dict[str, Any], str]] = {
    "MONAI HausdorffDistance + SurfaceDice": (monai, {}, "HD95, NSD by voxels"),
    "the same, use_subvoxels=True": (monai, {"use_subvoxels": True}, "HD95, NSD by area"),
    "surface-distance": (surface_distance, {}, "HD95 and NSD by area"),
    "SimpleITK SignedMaurerDistanceMap": (simpleitk, {}, "HD95"),
    "edt in bounding boxes": (edt_in_boxes, {}, "HD95"),
    "case_metrics": (ours, {}, "all 17 figures"),
}
BASELINE, OURS = "MONAI HausdorffDistance + SurfaceDice", "case_metrics"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", type=Path, help="label map of a full-size case with 13 organs (.nii.gz)")
    parser.add_argument(
        "--runs", type=int, default=3, help="repetitions of MONAI and ours, the median is reported (default: 3)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"table to write (default: {RESULTS.name})")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure_once(*arguments.one)))
        return
    if arguments.label is None:
        parser.error("--label is needed: a file under RawData/Training/label of `unetr_nnunet phantom --size full`")
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for scene, strays in SCENES.items():
            case, described = make_case(arguments.label, strays, Path(folder))
            ways = (BASELINE, OURS) if strays else tuple(WAYS)
            runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for repetition in range(arguments.runs):
                for way in (BASELINE, OURS) if repetition else ways:
                    runs[way].append(run_way(way, case))
            sections.append(describe(scene, described, runs))
    table = "\n\n".join([header(arguments.runs), *sections]) + "\n"
    print(table)
    arguments.results.write_text(table, encoding="utf-8")


def make_case(label: Path, strays: int, folder: Path) -> tuple[Path, str]:
    """Write truth and prediction to one file; return it and the case in words."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(label))
    truth, spacing_mm = sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]
    predicted = bend(truth)
    predicted[predicted == 4] = 0
    right = np.argwhere(predicted == 2)
    predicted[tuple(right[: len(right) // 10].T)] = 3
    random = np.random.default_rng(2)
    places = random.choice(truth.size, strays * len(LABELS), replace=False)
    predicted.ravel()[places] = np.repeat(np.array(LABELS, truth.dtype), strays)
    case = folder / f"case_{strays}.npz"
    np.savez(case, truth=truth, predicted=predicted, spacing_mm=spacing_mm)
    size = " x ".join(map(str, truth.shape[::-1]))
    return case, f"{size} voxels of {' x '.join(f'{step:.2f}' for step in spacing_mm[::-1])} mm"


def bend(truth: Volume) -> Volume:
    """Return a label map that is moved by up to two voxels here and there, and not at all elsewhere."""
    from scipy import ndimage

    random = np.random.default_rng(1)
    depth, rows, columns = truth.shape
    shifts = []
    for _ in range(2):
        coarse = random.normal(0, 1.2, (depth // 8 + 2, 18, 18))
        fine = ndimage.zoom(coarse, np.array(truth.shape) / coarse.shape, order=1)
        shifts.append(np.rint(fine).astype(np.int16))
    predicted = np.empty_like(truth)
    down, across = np.mgrid[:rows, :columns]
    for z in range(depth):
        y = np.clip(down + shifts[0][z], 0, rows - 1)
        x = np.clip(across + shifts[1][z], 0, columns - 1)
        predicted[z] = truth[z][y, x]
    return predicted


def run_way(way: str, case: Path) -> dict[str, Any]:
    """Measure one way in a fresh process."""
    print(f"{way}, {case.stem}", file=sys.stderr, flush=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--one", way, str(case)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, check=False)
    if done.returncode:
        raise RuntimeError(f"{way} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_once(way: str, case: str) -> dict[str, Any]:
    """Run one way in this process; return its times, memory (with and without what was loaded before) and figures."""
    warnings.simplefilter("ignore")
    prepare, options, _ = WAYS[way]
    with np.load(case) as stored:
        spacing_mm = tuple(stored["spacing_mm"].tolist())
        measure = prepare(stored["truth"], stored["predicted"], spacing_mm, **options)
    start, start_cpu = time.perf_counter(), time.process_time()
    figures = measure()
    return {
        "time_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - start_cpu,
        "peak_gib": peak_gib(),
        "figures": figures,
    }


def peak_gib() -> float:
    """Return the largest resident memory of this process (Linux); the one that `resource` gives may be its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def header(runs: int) -> str:
    """Return what is measured on what."""
    packages = ("monai", "surface-distance", "SimpleITK", "edt", "connected-components-3d", "scipy", "numpy")
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return "\n".join(
        [
            "# Speed of the metrics",
            "",
            "One case with 13 organs of the phantom, size full; one thread of "
            f"{names[0] if names else platform.machine()}, each run in a fresh process: for MONAI and ours "
            f"the median of {runs} interleaved runs, for the others one. "
            f"Python {platform.python_version()}, "
            + ", ".join(f"{package} {version(package)}" for package in packages)
            + f", {datetime.date.today()}.",
            "Made by `python benchmarks/metrics_speed.py`; what is measured stands at the top of that file.",
            "Peak memory is that of the whole process, with the libraries it loads and both label maps.",
        ]
    )


def describe(scene: str, described: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return one table as Markdown."""
    baseline_s = statistics.median(run["cpu_s"] for run in runs[BASELINE])
    lines = [
        f"## Prediction {scene}: {described}",
        "",
        "| way | computes | CPU time (s) | range (s) | times less | peak memory (GiB) "
        "| largest difference from case_metrics |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in runs:
        computes = WAYS[way][2]
        times_s = [run["cpu_s"] for run in runs[way]]
        cpu_s = statistics.median(times_s)
        memory_gib = max(run["peak_gib"] for run in runs[way])
        difference = "" if way == OURS else differences(way, runs[way][0]["figures"], runs[OURS][0]["figures"])
        lines.append(
            f"| {way} | {computes} | {cpu_s:.1f} | {min(times_s):.1f}-{max(times_s):.1f} "
            f"| {baseline_s / cpu_s:.1f} | {memory_gib:.2f} | {difference} |"
        )
    dice = runs[OURS][0]["figures"]["dice"]
    lines += ["", f"Dice of the organs: {', '.join(f'{value:.3f}' for value in dice)}."]
    return "\n".join(lines)


def differences(way: str, theirs: Figures, ours_: Figures) -> str:
    """Return how far another way's figures are from ours, where both have a value."""
    words = []
    for name, unit in (("hd95", " mm"), ("nsd", "")):
        pairs = [pair for pair in zip(theirs.get(name, []), ours_[name], strict=False) if np.isfinite(pair).all()]
        if pairs:
            words.append(f"{name.upper()} {max(abs(a - b) for a, b in pairs):.2g}{unit}")
    return ", ".join(words)


if __name__ == "__main__":
    main()
