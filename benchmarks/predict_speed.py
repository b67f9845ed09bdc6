"""Compare ``unetr_nnunet predict`` with ``nnUNetv2_predict``: time, memory and Dice, as a Markdown table.

Each command is run whole, in a fresh process, on the same model folder, folds and image: nnU-Net's (with one worker
for reading and one for writing, as fits the machine), ours, and, in the first round only, ours with ``--exact``. They
take turns, and medians over the rounds are given. Memory is the largest sum over a command's processes, sampled every
50 ms. Dice is that of each label map with the truth. The split is measured once more inside one process each. What each
step brought is measured by leaving it out, with the first model on the first case. The wide field of view is the last
image with air around it, and the folder copies of it, with the last model. These are measured once each.

    python benchmarks/predict_speed.py --model UNETR=MODEL_FOLDER --case phantom=CT.nii.gz=LABEL.nii.gz --rounds 3
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
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk
import torch

from unetr_nnunet.experiments.steps import program
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder
from unetr_nnunet.trainers.precision import cpu_has_bfloat16

RESULTS = Path(__file__).parent / "results" / "predict_speed.md"
WAYS = ("stock", "ours", "ours --exact")
WIDER = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
MORE = (1, 2, 4)
GIB = 2**30
LEAVE_OUT = {
    "half of the mirrored views": """
def all_views(place, mirror_axes):
    return windows.all_views(mirror_axes)
windows.half_of_the_views = all_views""",
    "no second look at what is empty": """
real = sliding_window.SlidingWindow._suspicious
sliding_window.SlidingWindow._suspicious = lambda self: real(self).fill_(True)""",
    "the body only": """
preparation.body_box = lambda image, spacing: tuple(slice(0, length) for length in image.shape)""",
    "windows in batches": """
sliding_window.Placement.__init__.__defaults__ = (1,)""",
    "each organ resampled in its box": """
def boxes(self):
    return {output: tuple((0, length) for length in self.shape) for output in range(1, self.values.shape[0])}
label_map.LogitsOnImage._boxes = boxes""",
}
"""How to do without a step of ours: source that is run before the command."""


def without(step: str, model: Path, source: Path, target: Path) -> list[str]:
    """Return the words of our command with one step left out."""
    imports = "from unetr_nnunet.inference import label_map, preparation, sliding_window, windows\n"
    run = "\nimport sys\nfrom unetr_nnunet.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    words = command("ours", model, source, target)[1:]
    return [sys.executable, "-c", imports + LEAVE_OUT[step] + run, *words]


def command(way: str, model: Path, source: Path, target: Path) -> tuple[str, ...]:
    """Return the words of one way to predict a folder on the CPU."""
    folders = ("-i", str(source), "-o", str(target), "-m", str(model))
    if way == "stock":
        folds = sorted(path.name.removeprefix("fold_") for path in model.glob("fold_*"))
        words = ("-f", *folds, "-device", "cpu", "-npp", "1", "-nps", "1")
        return program("nnUNetv2_predict_from_modelfolder", *folders, *words)
    return program("unetr_nnunet", "predict", *folders, "--device", "cpu", *way.split()[1:])


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
if way == "stock":
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.inference import export_prediction
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, None if not list(Path(model).glob("fold_all")) else ("all",))
    reader = predictor.plans_manager.image_reader_writer_class
    timed(reader, "read_images", "read")
    timed(reader, "write_seg", "write")
    preprocessor = predictor.configuration_manager.preprocessor_class
    timed(preprocessor, "run_case_npy", "preprocess")
    timed(predictor, "predict_logits_from_preprocessed_data", "network")
    data, properties = reader().read_images([image])
    data, _, properties = preprocessor(verbose=False).run_case_npy(
        data, None, properties, predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json)
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    timed(export_prediction, "convert_predicted_logits_to_segmentation_with_correct_shape", "resample")
    export_prediction.export_prediction_from_logits(
        logits, properties, predictor.configuration_manager, predictor.plans_manager, predictor.dataset_json,
        mask.removesuffix(".nii.gz"))
else:
    from unetr_nnunet.inference import folder, label_map, outputs, predictor, sliding_window
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
    fidelity = "exact" if "exact" in way else "default"
    found = predictor.Predictor([load_model(Path(model), None)], fidelity=fidelity).predict(channels)
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
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def widened(image: sitk.Image, factor: float) -> sitk.Image:
    """Return the image with air around it in the plane."""
    margin = [round(length * (factor - 1) / 2) for length in image.GetSize()[:2]]
    return sitk.ConstantPad(image, [*margin, 0], [*margin, 0], -1024)


class Bench:
    """Runs the commands in a work folder."""

    def __init__(self, work: Path, rounds: int) -> None:
        self.work, self.rounds = work, rounds
        self.environment = {EXTERNAL_TRAINERS: str(trainer_folder()), "nnUNet_compile": "f"}

    def input_folder(self, name: str, files: dict[str, Callable[[Path], object]]) -> Path:
        """Return a folder with files that the given functions write."""
        folder = self.work / "in" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, write in files.items():
            write(folder / file)
        return folder

    def measure(self, ways: Sequence[str], model: Path, source: Path) -> dict[str, tuple[float, float, Path]]:
        """Return median seconds, GiB and output folder of each way, run in turn."""
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for number in range(self.rounds):
            for way in ways:
                if number and "--exact" in way:
                    continue
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
    found = bench.measure(WAYS, model, source)
    stock_mask = sitk.GetArrayFromImage(sitk.ReadImage(str(found["stock"][2] / "case.nii.gz")))
    lines = [
        f"## {model_name}, {case}",
        "",
        "| | seconds | times faster | GiB | of stock's | agreement | mean Dice | largest difference of an organ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    scores = {way: dice(folder / "case.nii.gz", truth) if truth else {} for way, (_, _, folder) in found.items()}
    for way, (seconds, gib, folder) in found.items():
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "case.nii.gz")))
        own, base = scores[way], scores["stock"]
        mean = f"{statistics.fmean(own.values()):.4f}" if own else ""
        worst = f"{max((own[label] - base[label] for label in own), key=abs):+.4f}" if own else ""
        lines.append(
            f"| {way} | {seconds:.1f} | {found['stock'][0] / seconds:.1f} | {gib:.2f} | "
            f"{gib / found['stock'][1]:.2f} | "
            f"{np.mean(mask == stock_mask):.5f} | {mean} | {worst} |"
        )
    lines += ["", "| seconds | " + " | ".join(STAGES) + " |", "|---" * (len(STAGES) + 1) + "|"]
    for way in WAYS[:2]:
        stages = split(way, model, source / "case_0000.nii.gz", bench.work, bench.environment)
        stages["resample"] -= stages["write"] if way == "stock" and stages["resample"] > stages["write"] else 0
        lines.append(f"| {way} | " + " | ".join(f"{stages.get(stage, 0):.1f}" for stage in STAGES) + " |")
    return [*lines, ""]


def steps(bench: Bench, model_name: str, model: Path, case: str, image: Path) -> list[str]:
    """Return what each step of ours saves: seconds with all of them, and without each."""
    source = bench.input_folder(case, {"case_0000.nii.gz": lambda path: shutil.copy(image, path)})
    seconds, _, folder = bench.measure(WAYS[1:2], model, source)["ours"]
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "case.nii.gz")))
    lines = [f"## What each step brings: {model_name}, {case}", "", "| without | seconds | slower | GiB | agreement |"]
    lines += ["|---|---|---|---|---|", f"| (with all) | {seconds:.1f} | | | |"]
    for step in LEAVE_OUT:
        target = bench.work / "out" / "without"
        shutil.rmtree(target, ignore_errors=True)
        slower, gib = run(without(step, model, source, target), bench.environment)
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(target / "case.nii.gz")))
        lines.append(
            f"| {step} | {slower:.1f} | {slower / seconds:.2f} times | {gib:.2f} | {np.mean(found == mask):.5f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def curves(bench: Bench, model_name: str, model: Path, case: str, image: Path) -> list[str]:
    """Return how the cost grows with the field of view and with the number of cases."""
    ct = sitk.ReadImage(str(image))
    subject = f"{model_name}, {case}"
    lines = [f"## Cost against field of view: {subject}", "", "| times as wide | stock, s | ours, s |", "|---|---|---|"]
    for factor in WIDER:
        wide = widened(ct, factor)
        source = bench.input_folder("wide", {"case_0000.nii.gz": lambda path, wide=wide: sitk.WriteImage(wide, path)})
        found = bench.measure(WAYS[:2], model, source)
        lines.append(f"| {factor} | {found['stock'][0]:.1f} | {found['ours'][0]:.1f} |")
    lines += ["", f"## Cost against number of cases: {subject}", "", "| cases | stock, s | ours, s |", "|---|---|---|"]
    for count in MORE:
        files = {f"case{number}_0000.nii.gz": lambda path: shutil.copy(image, path) for number in range(count)}
        found = bench.measure(WAYS[:2], model, bench.input_folder("many", files))
        lines.append(f"| {count} | {found['stock'][0]:.1f} | {found['ours'][0]:.1f} |")
    return [*lines, ""]


def machine() -> str:
    """Return processor, threads and torch in words."""
    processor = f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return f"{processor}{', bfloat16' if cpu_has_bfloat16() else ''}, torch {torch.__version__}"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--case", action="append", required=True, metavar="NAME=CT[=LABEL]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-curves", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    models = {name: Path(folder) for name, folder in (text.split("=") for text in arguments.model)}
    cases = [text.split("=") for text in arguments.case]
    for path in [*models.values(), *(Path(each) for _, *files in cases for each in files)]:
        if not path.exists():
            parser.error(f"{path} does not exist")
    lines = [
        "# unetr_nnunet predict beside nnUNetv2_predict",
        "",
        f"Written by `benchmarks/predict_speed.py`, whose docstring says how, on {datetime.date.today()}: {machine()}, "
        f"nnunetv2 {version('nnunetv2')}, {arguments.rounds} rounds.",
        "",
    ]
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(Path(work), arguments.rounds)
        for model_name, model in models.items():
            for name, image, *truth in cases:
                lines += compare(bench, model_name, model, name, Path(image), Path(truth[0]) if truth else None)
                arguments.output.write_text("\n".join(lines), encoding="utf-8")
        if not arguments.no_curves:
            bench.rounds = 1
            name, model = next(iter(models.items()))
            lines += steps(bench, name, model, cases[0][0], Path(cases[0][1]))
            arguments.output.write_text("\n".join(lines), encoding="utf-8")
            name, model = list(models.items())[-1]
            lines += curves(bench, name, model, cases[-1][0], Path(cases[-1][1]))
            arguments.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
