"""Write one HTML page about models: which is better, by how much, how certain that is, and where they go wrong.

example:
  unetr_nnunet report nnUNet_results/Dataset017_BTCV/nnUNetTrainer*__nnUNetPlans__3d_fullres -o report.html
  unetr_nnunet report unetr_masks/ nnunet_masks/ --labels labelsTs/ --images imagesTs/ --names UNETR nnU-Net
  unetr_nnunet report masks/ --labels labelsTs/ --training nnUNet_results/Dataset017_BTCV/nnUNetTrainerUNETR__...

MODEL is a trainer folder of nnU-Net (all folds' validation together), a crossval_results_folds_* or ensemble folder, a
folder of predictions, or a metrics.json or summary.json. The page needs nothing but a browser: no network, no server.
A model that cannot be read, or without any case that can be scored, is named on the page and the exit code is 1; the
others are reported all the same.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unetr_nnunet.evaluation.model_results import ModelResults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="what to report on; several are compared")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="(report.html)")
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="also write the tables of organs and of paired differences for a paper: FILE.md or FILE.tex",
    )
    parser.add_argument("--labels", type=Path, help="folder of true label maps (default: the data set's own)")
    parser.add_argument("--images", type=Path, help="folder of CTs, for the pictures of the worst cases")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="a name for each MODEL (default: its trainer's)")
    parser.add_argument(
        "--training",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="the trainer folder behind each MODEL that is a folder of predictions, for learning curves and cost",
    )
    parser.add_argument("--protocol", default="nnunet", help="see unetr_nnunet evaluate --help (default: nnunet)")
    parser.add_argument("--title", help="heading of the page")
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="worst cases to draw (5)")
    parser.add_argument(
        "--viewer", action="store_true", help="then show CTs and masks as unetr_nnunet view does; needs --images"
    )
    parser.add_argument("--workers", type=int, help="cases scored at once (default: one per processor, at most 8)")


def run(arguments: argparse.Namespace) -> int:
    """Read the models, write the page."""
    from unetr_nnunet.report.page import write_report

    _refuse_wrong_usage(arguments)
    models, problems = _read(arguments)
    places = {arguments.models[place]: folder for place, folder in enumerate(arguments.training or [])}
    written = write_report(
        models,
        arguments.output,
        images=arguments.images,
        training={model.name: places[model.folder] for model in models if model.folder in places},
        title=arguments.title,
        command=["unetr_nnunet", *sys.argv[1:]],
        problems=problems,
        most_worst_cases=arguments.worst,
        paper_tables=arguments.tables,
        progress=True,
    )
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"Written: {', '.join(map(str, [written, *arguments.tables]))}", flush=True)
    if arguments.viewer:
        _view(arguments.images, models)
    return 1 if problems else 0


def _refuse_wrong_usage(arguments: argparse.Namespace) -> None:
    for option in ("names", "training"):
        given = getattr(arguments, option)
        if given and len(given) != len(arguments.models):
            counts = f"{len(given)} for {len(arguments.models)} model(s)"
            raise ValueError(f"--{option} has {counts}: give one for each MODEL, in their order")
    for path in (arguments.output, *arguments.tables):
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name the file, such as {path / 'report.html'}")
    for path in arguments.tables:
        if path.suffix not in (".md", ".tex"):
            raise ValueError(f"--tables {path}: call the file .md for Markdown, or .tex for LaTeX")
    if arguments.viewer and arguments.images is None:
        raise ValueError("--viewer needs the CTs: give their folder with --images")
    if arguments.images is not None and not arguments.images.is_dir():
        raise ValueError(f"--images {arguments.images} is not a folder")


def _view(images: Path, models: "list[ModelResults]") -> None:
    """Serve the viewer until Ctrl-C."""
    import subprocess

    masks = dict.fromkeys(str(path.parent) for model in models for path in model.predictions.values())
    labels = dict.fromkeys(str(path.parent) for model in models for path in model.labels.values())
    command = ["view", str(images), "--masks", *masks, *(["--labels", next(iter(labels))] if labels else [])]
    subprocess.run([sys.executable, "-m", "unetr_nnunet.cli.main", *command], check=True)


def _read(arguments: argparse.Namespace) -> "tuple[list[ModelResults], list[str]]":
    from unetr_nnunet.evaluation.model_results import read_model

    workers = arguments.workers if arguments.workers is not None else min(os.cpu_count() or 1, 8)
    models, problems = [], []
    for place, folder in enumerate(arguments.models):
        name = arguments.names[place] if arguments.names else None
        try:
            model = read_model(
                folder, arguments.labels, name=name, protocol=arguments.protocol, workers=workers, progress=True
            )
        except (ValueError, OSError) as error:
            problems.append(f"{name or folder} could not be read: {error}")
        else:
            models.append(model)
    return models, problems
