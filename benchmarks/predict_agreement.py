"""Compare the label maps of ``unetr_nnunet predict`` with those of ``nnUNetv2_predict``, as a Markdown table.

All commands run whole, on the CPU, with the same trained model, all its folds and mirrored views, on the same CTs.
Agreement is the share of all voxels with equal labels. The change of Dice is that of each organ of each case with the
given truth, ours minus nnU-Net's.

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
COLUMNS = ("", "cases", "least agreement", "mean agreement", "largest change of an organ's Dice", "mean change")


def compare(work: Path, name: str, model: Path, cts: Path, labels: Path, count: int) -> list[str]:
    """Return the lines on one model."""
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in cts.glob("*_0000.nii.gz"))[:count]
    bench = Bench(work, rounds=1)
    files = {f"{case}_0000.nii.gz": lambda path: shutil.copy(cts / path.name, path) for case in cases}
    folders = {way: found[2] for way, found in bench.measure(model, bench.input_folder(name, files)).items()}
    trainer = json.loads((model / "dataset.json").read_text(encoding="utf-8"))
    organs = len(trainer["labels"]) - 1
    lines = [f"## {name}: {organs} organs, {len(list(model.glob('fold_*')))} fold(s)", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    truth = {case: labels / f"{case}.nii.gz" for case in cases}
    expected = {case: dice(folders["stock"] / f"{case}.nii.gz", truth[case]) for case in cases}
    for way in WAYS[1:]:
        agreements, changes = [], []
        for case in cases:
            ours, theirs = (folders[folder] / f"{case}.nii.gz" for folder in (way, "stock"))
            voxels = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (ours, theirs)]
            agreements.append(np.mean(voxels[0] == voxels[1]))
            scores = dice(ours, truth[case])
            changes += [scores[label] - expected[case][label] for label in scores]
        cells = [way, str(len(cases)), f"{min(agreements):.5f}", f"{np.mean(agreements):.5f}"]
        cells += [f"{max(changes, key=abs):+.4f}", f"{np.mean(changes):+.5f}"]
        lines.append(f"| {' | '.join(cells)} |")
    mean = np.mean([score for scores in expected.values() for score in scores.values()])
    return [*lines, "", f"Mean Dice of nnU-Net's label maps: {mean:.3f}.", ""]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER=CTS=LABELS")
    parser.add_argument("--cases", type=int, default=6)
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
            lines += compare(Path(work), name, *map(Path, paths), arguments.cases)
        arguments.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
