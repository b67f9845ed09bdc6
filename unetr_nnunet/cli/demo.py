"""Run the whole pipeline on synthetic CTs: download, convert, plan, train, predict, evaluate, report. No GPU needed.

Every step is a command of nnU-Net's or ours; an interrupted demo continues where it was. The figures say that the
pipeline works, nothing about real patients.

example:
  unetr_nnunet demo demo_workdir
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where all files go")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo, print the table, name the picture."""
    import SimpleITK as sitk

    from unetr_nnunet.evaluation.model_results import read_model
    from unetr_nnunet.evaluation.tables import format_table, write_csv, write_json
    from unetr_nnunet.experiments.demo import DATASET, run_demo
    from unetr_nnunet.images.overlay import draw_overlay
    from unetr_nnunet.report.page import write_report

    predictions, labels = run_demo(arguments.folder)
    model = read_model(predictions, labels, name="UNETR, demo")
    evaluation = model.evaluation
    write_csv(evaluation, arguments.folder / "metrics.csv")
    write_json(evaluation, arguments.folder / "metrics.json")
    images = arguments.folder / "nnUNet_raw" / DATASET / "imagesTs"
    trainer = next((arguments.folder / "nnUNet_results" / DATASET).glob("nnUNetTrainer*"), None)
    report = write_report(
        [model],
        arguments.folder / "report.html",
        images=images,
        training={model.name: trainer} if trainer else None,
        title="The demo on the phantom",
        command=["unetr_nnunet", "demo", str(arguments.folder)],
    )
    case = sorted(evaluation["cases"])[0]
    picture = arguments.folder / "demo.png"
    files = (
        images / f"{case}_0000.nii.gz",
        labels / f"label{case[-4:]}.nii.gz",
        predictions / f"{case}.nii.gz",
    )
    ct, truth, prediction = (sitk.ReadImage(str(path)) for path in files)
    draw_overlay(ct, {"truth": truth, "prediction": prediction}, picture)
    print(format_table(evaluation))
    print(f"\nreport, for a browser: {report}")
    print(f"picture of {case}: {picture}")
    print(f"predictions: {predictions}")
    return 0
