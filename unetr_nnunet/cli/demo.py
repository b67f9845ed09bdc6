"""Run the whole pipeline on synthetic CTs: download, convert, plan, train, predict, evaluate, report. No GPU needed.

It is the study `demo` of `unetr_nnunet crossval`; an interrupted demo continues where it was. The figures show that the
pipeline works and say nothing about real patients.

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
    from unetr_nnunet.evaluation.metrics_file import write_csv, write_json
    from unetr_nnunet.evaluation.model_results import read_model
    from unetr_nnunet.evaluation.tables import format_table
    from unetr_nnunet.experiments.demo import PHANTOM_LABELS, run_demo
    from unetr_nnunet.images.label_maps import read_label_map
    from unetr_nnunet.images.overlay import draw_overlay
    from unetr_nnunet.images.read import read_image
    from unetr_nnunet.report.page import write_report

    folder = arguments.folder.resolve()
    data = run_demo(folder)
    predictions, labels, images = folder / "predictions", folder / PHANTOM_LABELS, data.raw / "imagesTs"
    model = read_model(predictions, labels, name="UNETR, demo")
    evaluation = model.evaluation
    write_csv(evaluation, folder / "metrics.csv")
    write_json(evaluation, folder / "metrics.json")
    trainer = next(data.results.glob("nnUNetTrainer*"), None)
    report = write_report(
        [model],
        folder / "test_report.html",
        images=images,
        training={model.name: trainer} if trainer else None,
        title="The demo on the phantom",
        command=["unetr_nnunet", "demo", str(arguments.folder)],
    )
    case = sorted(evaluation.cases)[0]
    picture = folder / "demo.png"
    masks = {"truth": labels / f"label{case[-4:]}.nii.gz", "prediction": predictions / f"{case}.nii.gz"}
    maps = {title: read_label_map(path)[0] for title, path in masks.items()}
    draw_overlay(read_image(images / f"{case}_0000.nii.gz"), maps, picture)
    print(format_table(evaluation))
    print(f"\nreport, for a browser: {report}")
    print(f"cross-validation: {folder / 'report.html'}")
    print(f"picture of {case}: {picture}")
    print(f"predictions: {predictions}")
    return 0
