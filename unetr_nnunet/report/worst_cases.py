"""Find the worst cases and draw where they go wrong."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.statistics import mean
from unetr_nnunet.images.files import FIRST_CHANNEL, pair_names, stem, volume_files
from unetr_nnunet.report.models import ReportedModels
from unetr_nnunet.report.pictures import SlicePictures, draw_slice, legend, read_volumes, wrong_slices

MOST_MODELS = 4
"""Panels side by side beside the truth's."""
MOST_FOLDERS = 6
"""Of masks, in a command to be read and copied."""


@dataclass(frozen=True)
class WorstCase:
    """A case for the page.

    Attributes:
        case: its name.
        mean: Dice, mean over organs and then over models.
        models: short name, mean Dice and weakest organs of each model.
        slices: the pictures.
        problems: what could not be drawn.
    """

    case: str
    mean: float
    models: list[tuple[str, float, list[tuple[str, float]]]]
    slices: list[SlicePictures]
    problems: list[str]


def ranked_cases(reported: ReportedModels) -> list[tuple[str, float]]:
    """Return cases with their Dice, mean over organs and over the models that have it; worst first."""
    means = {case: mean(reported.case_mean(model, case) for model in reported.models) for case in reported.cases}
    valued = [(case, dice) for case, dice in means.items() if not math.isnan(dice)]
    return sorted(valued, key=lambda item: (item[1], item[0]))


def weakest_organs(reported: ReportedModels, model: ModelResults, case: str, most: int = 3) -> list[tuple[str, float]]:
    """Return the organs with the lowest Dice of a case."""
    dice = {column: model.evaluation.figure(case, column, "dice") for column in reported.columns}
    return sorted((item for item in dice.items() if not math.isnan(item[1])), key=lambda item: item[1])[:most]


def worst_cases(reported: ReportedModels, images: Path | None, most: int) -> list[WorstCase]:
    """Return the worst cases with pictures, worst first.

    Args:
        reported: the models.
        images: folder of CTs; None draws on black.
        most: number of cases.
    """
    files = _images(images)
    ranked = ranked_cases(reported)[:most]
    return [_worst_case(reported, case, dice, files, number) for number, (case, dice) in enumerate(ranked)]


def _worst_case(reported: ReportedModels, case: str, dice: float, files: Mapping[str, Path], number: int) -> WorstCase:
    shown = [model for model in reported.models if case in model.evaluation.cases]
    rows = [
        (reported.short(model), reported.case_mean(model, case), weakest_organs(reported, model, case))
        for model in shown
    ]
    drawn = [model for model in shown if case in model.predictions][:MOST_MODELS]
    label = next((model.labels[case] for model in shown if case in model.labels), None)
    if label is None or not drawn:
        return WorstCase(case, dice, rows, [], ["no picture: the masks of this case are not at hand, only its figures"])
    image = find_image(case, label, files)
    problems = [] if image or not files else [f"no CT of {case} in the folder of images; drawn on black"]
    try:
        slices, more = _slices(reported, drawn, case, label, image, number)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        return WorstCase(case, dice, rows, [], [*problems, f"no picture: {error}"])
    return WorstCase(case, dice, rows, slices, [*problems, *more])


def _slices(
    reported: ReportedModels, models: list[ModelResults], case: str, label: Path, image: Path | None, number: int
) -> tuple[list[SlicePictures], list[str]]:
    predictions = {reported.short(model): model.predictions[case] for model in models}
    volumes, problems = read_volumes(label, predictions, image)
    ignore = models[0].evaluation.ignore_label
    views = wrong_slices(volumes, ignore)
    labels = reported.models[0].evaluation.label_ids
    pictures = [draw_slice(volumes, view, labels, ignore, f"ct{number}x{place}") for place, view in enumerate(views)]
    return pictures, problems


def view_command(reported: ReportedModels, cases: Sequence[WorstCase], images: Path | None) -> str | None:
    """Return the command that shows the pictured cases in three planes and 3-D; None without CTs or masks."""
    drawn = [case.case for case in cases if case.slices]
    models = reported.models[:MOST_MODELS]
    masks = sorted(
        {str(model.predictions[case].parent) for model in models for case in drawn if case in model.predictions}
    )
    labels = sorted({str(model.labels[case].parent) for model in models for case in drawn if case in model.labels})
    if images is None or not masks or len(masks) > MOST_FOLDERS:
        return None
    command = ["unetr_nnunet", "view", str(images), "--masks", *masks]
    return shlex.join([*command, "--labels", labels[0]] if len(labels) == 1 else command)


def _images(folder: Path | None) -> dict[str, Path]:
    """Return the image files of a folder by case; of several channels the first."""
    images: dict[str, Path] = {}
    for path in volume_files(folder) if folder else ():
        images.setdefault(stem(path).removesuffix(FIRST_CHANNEL), path)
    return images


def find_image(case: str, label: Path, files: Mapping[str, Path]) -> Path | None:
    """Return the image of a case, by its own name or by that of its label (`unetr_nnunet.images.files.pair_names`)."""
    names = (file for name in (case, stem(label)) for file in pair_names([name], files).values())
    return next((files[name] for name in names), None)


def context(reported: ReportedModels, images: Path | None, most: int) -> dict[str, Any]:
    """Return what the template of this section needs."""
    cases = worst_cases(reported, images, most)
    return {
        "cases": cases,
        "legend": legend(reported.models[0].evaluation.label_ids),
        "pooled": bool(reported.seeds),
        "left_out": max(len(reported.models) - MOST_MODELS, 0),
        "images": images,
        "view": view_command(reported, cases, images),
        "shared": [Markup("").join(picture.image for picture in case.slices) for case in cases],
    }
