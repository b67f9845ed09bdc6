"""Compare the label maps of ``unetr_nnunet predict`` with those of ``nnUNetv2_predict``, as a Markdown table.

All commands run whole, on the CPU, with the same trained model, all its folds and mirrored views, on the same CTs.
Agreement is the share of all voxels with equal labels. The change of Dice with the given truth is ours minus nnU-Net's.
Seconds and GiB are of the whole command, for all cases.

    python benchmarks/predict_agreement.py --model NAME=MODEL_FOLDER=CTS=LABELS --cases 6
"""

import argparse
import datetime
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from benchmarks.predict_speed import WAYS, Bench, dice, machine

RESULTS = Path(__file__).parent / "results" / "predict_agreement.md"
COLUMNS = (
    "",
    "seconds",
    "times faster",
    "GiB",
    "least agreement",
    "mean agreement",
    "largest change of an organ's mean Dice",
    "of an organ of one case",
    "mean change",
)


def compare(bench: Bench, name: str, model: Path, cts: Path, labels: Path, count: int) -> list[str]:
    """Return the lines on one model."""
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in cts.glob("*_0000.nii.gz"))[:count]
    files = {f"{case}_0000.nii.gz": lambda path: shutil.copy(cts / path.name, path) for case in cases}
    measured = bench.measure(model, bench.input_folder(name, files))
    labels_of = json.loads((model / "dataset.json").read_text(encoding="utf-8"))["labels"]
    folds = len(list(model.glob("fold_*")))
    lines = [f"## {name}: {len(labels_of) - 1} organs, {folds} fold(s), {len(cases)} cases", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    truth = {case: labels / f"{case}.nii.gz" for case in cases}
    theirs = {case: measured["stock"][2] / f"{case}.nii.gz" for case in cases}
    expected = {case: dice(theirs[case], truth[case]) for case in cases}
    for way, (seconds, gib, folder) in measured.items():
        cells = [way, f"{seconds:.0f}", f"{measured['stock'][0] / seconds:.1f}", f"{gib:.2f}"]
        agreements: list[float] = []
        changes: dict[int, list[float]] = {}
        for case in cases:
            voxels = [
                sitk.GetArrayFromImage(sitk.ReadImage(str(each))) for each in (folder / theirs[case].name, theirs[case])
            ]
            agreements.append(float(np.mean(voxels[0] == voxels[1])))
            for label, score in dice(folder / theirs[case].name, truth[case]).items():
                changes.setdefault(label, []).append(score - expected[case][label])
        every = [change for of_organ in changes.values() for change in of_organ]
        cells += [f"{min(agreements):.5f}", f"{np.mean(agreements):.5f}"]
        cells += [f"{max((np.mean(of_organ) for of_organ in changes.values()), key=abs):+.5f}"]
        cells += [f"{max(every, key=abs):+.4f}", f"{np.mean(every):+.5f}"]
        lines.append(f"| {' | '.join(cells)} |")
    mean = np.mean([score for scores in expected.values() for score in scores.values()])
    return [*lines, "", f"Mean Dice of nnU-Net's label maps: {mean:.3f}.", ""]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER=CTS=LABELS")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--way", action="append", choices=WAYS[1:], help="besides stock; all without")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    lines = [
        "# Label maps of unetr_nnunet predict beside those of nnUNetv2_predict",
        "",
        f"Written by `benchmarks/predict_agreement.py`, whose docstring says how, on {datetime.date.today()}: "
        f"{machine()}, nnunetv2 {version('nnunetv2')}.",
        "",
    ]
    for text in arguments.model:
        name, *paths = text.split("=")
        with tempfile.TemporaryDirectory() as work:
            bench = Bench(Path(work), rounds=1, ways=("stock", *(arguments.way or WAYS[1:])))
            lines += compare(bench, name, *map(Path, paths), arguments.cases)
        arguments.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
