"""Write the report: one HTML file that fetches nothing; text is escaped, and a broken section fails alone.

A Content-Security-Policy forbids the page every request, and every script but its own.
"""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from tqdm import tqdm

from unetr_nnunet import __version__
from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.evaluation.metrics import DICE, NO_VALUE, number, p_value
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.evaluation.verdict import count
from unetr_nnunet.report import figures, provenance, tables, worst_cases
from unetr_nnunet.report.answer import answer, difference_section
from unetr_nnunet.report.models import ReportedModels, gather, organ_label
from unetr_nnunet.report.paper_tables import write_tables
from unetr_nnunet.report.svg import typographic
from unetr_nnunet.report.training import Training, cost_row, plan_rows, read_training

WORST_CASES = 5
SECTION_TITLES = {
    "models": "Models",
    "organs": "Organs",
    "differences": "Paired differences",
    "cases": "Cases by organs",
    "worst": "Worst cases",
    "learning": "Learning curves",
    "cost": "Cost",
    "plan": "Plan",
    "repeat": "To repeat this",
}


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        identity: anchor, and name of its template.
        title: heading.
        content: what the template needs; None where there is nothing to show.
        problem: why it could not be made, None where it could.
    """

    identity: str
    title: str
    content: Mapping[str, Any] | None
    problem: str | None = None


def write_report(
    models: Sequence[ModelResults],
    output: Path,
    *,
    images: Path | None = None,
    training: Mapping[str, Path] | None = None,
    title: str | None = None,
    command: Sequence[str] | None = None,
    problems: Sequence[str] = (),
    most_worst_cases: int = WORST_CASES,
    paper_tables: Sequence[Path] = (),
    progress: bool = False,
) -> Path:
    """Write the report.

    Args:
        models: what was read; one at least, all under one protocol.
        output: the HTML file.
        images: folder of CTs for the pictures; None for the one that nnU-Net predicted from, if it tells.
        training: trainer folder by model name, for models that were read from a folder of masks.
        title: heading of the page; None for one made from the data set.
        command: words of the command that makes this report.
        problems: what went wrong before, for the page.
        most_worst_cases: number of cases with pictures.
        paper_tables: files for the tables of a paper, in LaTeX where one is called ``.tex``, else in Markdown.
        progress: show a progress bar on stderr.

    Returns:
        The HTML file.

    Raises:
        ValueError: there is no model, no case, two models have one name, or the protocols differ.
    """
    reported = gather(models, problems)
    trainings = {model.name: read_training(model, (training or {}).get(model.name)) for model in reported.trainings}
    images = images if images is not None else provenance.image_folder(reported.trainings)
    makers: dict[str, Callable[[], Mapping[str, Any] | None]] = {
        "models": partial(tables.model_section, reported),
        "organs": partial(tables.organ_section, reported),
        "differences": partial(difference_section, reported),
        "cases": partial(tables.case_section, reported),
        "worst": partial(worst_cases.context, reported, images, most_worst_cases) if most_worst_cases else lambda: None,
        "learning": partial(_learning, reported, trainings),
        "cost": partial(_cost, reported, trainings),
        "plan": partial(_plan, reported, trainings),
        "repeat": partial(provenance.context, reported, trainings, command),
    }
    with atomic_path(output) as temporary:
        bar = tqdm(makers.items(), desc="report", unit="section", disable=not progress)
        sections = [_made(identity, make) for identity, make in bar]
        temporary.write_text(_render(reported, trainings, sections, title), encoding="utf-8")
    for path in paper_tables:
        write_tables(tables.all_tables_for_papers(reported), path)
    return output


def _render(
    reported: ReportedModels, trainings: Mapping[str, Training], sections: Sequence[Section], title: str | None
) -> str:
    pictured: list[worst_cases.WorstCase] = next(
        (section.content["cases"] for section in sections if section.identity == "worst" and section.content), []
    )
    problems = (*reported.problems, *(problem for training in trainings.values() for problem in training.problems))
    return (
        _environment()
        .get_template("page.html")
        .render(
            reported=reported,
            title=title or _title(reported, trainings),
            answer=answer(reported),
            first_figure=tables.first_figure(reported),
            protocol=reported.models[0].evaluation.protocol,
            problems=[reported.shorten_owner(problem) for problem in problems],
            sections=[section for section in sections if section.content is not None or section.problem],
            case_anchors={case.case: f"case-{place}" for place, case in enumerate(pictured, 1)},
            version=__version__,
            **_assets(),
        )
    )


def _made(identity: str, make: Callable[[], Mapping[str, Any] | None]) -> Section:
    try:
        return Section(identity, SECTION_TITLES[identity], make())
    except (ValueError, OSError, RuntimeError, MemoryError, LookupError, TypeError, ArithmeticError) as error:
        return Section(identity, SECTION_TITLES[identity], None, f"{type(error).__name__}: {error}")


def _title(reported: ReportedModels, trainings: Mapping[str, Training]) -> str:
    data_sets = {
        str(training.plans["dataset_name"]) for training in trainings.values() if training.plans.get("dataset_name")
    }
    subject = data_sets.pop() if len(data_sets) == 1 else "Segmentation"
    return f"{subject}: {'one model' if len(reported.models) == 1 else f'{len(reported.models)} models compared'}"


def _learning(reported: ReportedModels, trainings: Mapping[str, Training]) -> dict[str, Any]:
    logs = {reported.short(model): trainings[model.name].logs for model in reported.trainings}
    every = [log for model_logs in logs.values() for log in model_logs]
    losses = [value for log in every for name in ("train_loss", "val_loss") for _, value in log.curve(name)]
    last = max((epoch for log in every for epoch in log.epochs), default=0)
    limits = (min(losses, default=0.0), max(losses, default=1.0))
    return {
        "models": [
            {
                "name": name,
                "folds": [(log.fold, figures.fold_key(index)) for index, log in enumerate(drawn)],
                "figure": figures.learning_figure(drawn, last, limits, f"learning curves of {name}"),
            }
            for name, drawn in logs.items()
            if drawn
        ],
        "without": [name for name, drawn in logs.items() if not drawn],
    }


def _cost(reported: ReportedModels, trainings: Mapping[str, Training]) -> dict[str, Any]:
    return {"rows": [(reported.short(model), cost_row(trainings[model.name])) for model in reported.trainings]}


def _plan(reported: ReportedModels, trainings: Mapping[str, Training]) -> dict[str, Any]:
    """Return what all plans share once, and the rest model by model."""
    plans = [plan_rows(trainings[model.name]) for model in reported.trainings]
    keys = list(dict.fromkeys(key for plan in plans for key in plan))
    same = {key: plans[0][key] for key in keys if all(plan.get(key) == plans[0].get(key) for plan in plans)}
    return {
        "same": same,
        "keys": [key for key in keys if key not in same],
        "models": [(reported.short(model), plan) for model, plan in zip(reported.trainings, plans, strict=True)],
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unetr_nnunet.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": breakable,
        "cases_in_words": lambda cases: count(cases, "case"),
        "dice": lambda value: typographic(DICE.text(value)),
        "interval": lambda estimate, signed=False: typographic(
            DICE.interval(estimate.low, estimate.high, signed=signed)
        ),
        "number": lambda value, decimals: typographic(NO_VALUE if value is None else number(value, decimals)),
        "organ_label": organ_label,
        "p_value": lambda p: typographic(p_value(p)),
        "signed": lambda value: typographic(DICE.text(value, signed=True)),
        "signed_effect": lambda value: typographic(number(value, 2, signed=True)),
        "sort_value": lambda value: "" if math.isnan(value) else f"{value:.6f}",
        "typographic": typographic,
    }
    return environment


def breakable(name: str) -> Markup:
    """Return a name that a line may break after an underscore, escaped."""
    return Markup("<wbr>").join(re.split(r"(?<=_)", name))


def _assets() -> dict[str, Any]:
    """Return style, script, and the policy that lets this script run and nothing else."""
    folder = files("unetr_nnunet.report") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return {"style": Markup(style), "script": Markup(script), "policy": policy}
