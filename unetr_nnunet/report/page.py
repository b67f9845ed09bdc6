"""One HTML file from scored models: nothing is fetched, every text is escaped, one broken section costs that one only.

A Content-Security-Policy forbids the page every request, and every script but its own.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.report import (
    differences,
    figures,
    heat_map,
    provenance,
    tables,
    worst_cases,
)
from unetr_nnunet.report.answer import answer, cases_in_words, interval, number, p_value, signed
from unetr_nnunet.report.names import breakable, organ_label
from unetr_nnunet.report.paper_tables import write_tables
from unetr_nnunet.report.study import Study, gather
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
        content: what the template needs; None where there is nothing to show.
        problem: why it could not be made, None where it could.
    """

    identity: str
    content: Mapping[str, Any] | None
    problem: str | None = None

    @property
    def title(self) -> str:
        """Return the heading."""
        return SECTION_TITLES[self.identity]


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
        training: trainer folder by model name, for models whose own folder is none.
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
    study = gather(models, problems)
    with atomic_path(output) as temporary:
        page = render(
            study,
            images=images if images is not None else provenance.image_folder(study.trainings),
            training=training or {},
            title=title,
            command=command,
            most_worst_cases=most_worst_cases,
            progress=progress,
        )
        temporary.write_text(page, encoding="utf-8")
    for path in paper_tables:
        write_tables(tables.all_tables_for_papers(study), path)
    return output


def render(
    study: Study,
    *,
    images: Path | None,
    training: Mapping[str, Path],
    title: str | None,
    command: Sequence[str] | None,
    most_worst_cases: int,
    progress: bool,
) -> str:
    """Return the page as text; see `write_report`."""
    trainings = {model.name: read_training(model, training.get(model.name)) for model in study.trainings}
    makers: dict[str, Callable[[], Mapping[str, Any] | None]] = {
        "models": partial(_models, study),
        "organs": partial(_organs, study),
        "differences": partial(differences.context, study),
        "cases": partial(heat_map.context, study),
        "worst": partial(worst_cases.context, study, images, most_worst_cases) if most_worst_cases else lambda: None,
        "learning": partial(_learning, study, trainings),
        "cost": partial(_cost, study, trainings),
        "plan": partial(_plan, study, trainings),
        "repeat": partial(provenance.context, study, trainings, command),
    }
    sections = []
    with _bar(len(makers), progress) as advance:
        for identity, make in makers.items():
            sections.append(_made(identity, make))
            advance()
    pictured: list[worst_cases.WorstCase] = next(
        (each.content["cases"] for each in sections if each.identity == "worst" and each.content), []
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            study=study,
            title=title or _title(study, trainings),
            answer=answer(study),
            first_figure=tables.first_figure(study),
            protocol=study.protocol(),
            problems=[
                study.shorten_owner(problem)
                for problem in (*study.problems, *(words for each in trainings.values() for words in each.problems))
            ],
            sections=[section for section in sections if section.content is not None or section.problem],
            case_anchors={each.case: f"case-{place}" for place, each in enumerate(pictured, 1)},
            measures=tables.measures(study),
            version=__version__,
            **_assets(),
        )
    )


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[], object]]:
    with tqdm(total=total, desc="report", unit="section", disable=not progress) as bar:
        yield bar.update


def _made(identity: str, make: Callable[[], Mapping[str, Any] | None]) -> Section:
    try:
        return Section(identity, make())
    except (ValueError, OSError, RuntimeError, MemoryError, LookupError, TypeError, ArithmeticError) as error:
        return Section(identity, None, f"{type(error).__name__}: {error}")


def _title(study: Study, trainings: Mapping[str, Training]) -> str:
    data_sets = {str(each.plans["dataset_name"]) for each in trainings.values() if each.plans.get("dataset_name")}
    subject = data_sets.pop() if len(data_sets) == 1 else "Segmentation"
    return f"{subject}: {'one model' if len(study.models) == 1 else f'{len(study.models)} models compared'}"


def _models(study: Study) -> dict[str, Any]:
    return {
        "rows": tables.model_rows(study),
        "has_folds": any(model.fold_of for model in study.models),
        "has_seeds": any(model.seed is not None for model in study.trainings),
        "metrics": tables.metric_rows(study),
        "measures": tables.measures(study),
        "seeds": tables.seed_spreads(study),
    }


def _organs(study: Study) -> dict[str, Any]:
    return {
        "figures": tables.distributions(study),
        "rows": tables.organ_rows(study),
        "measures": tables.measures(study),
        "metrics": tables.organ_metric_tables(study),
        "papers": tables.tables_for_papers(study),
        "most_dots": figures.MOST_DOTS,
    }


def _learning(study: Study, trainings: Mapping[str, Training]) -> dict[str, Any] | None:
    logs = [log for each in trainings.values() for log in each.logs]
    losses = [value for log in logs for name in ("train_loss", "val_loss") for _, value in log.curve(name)]
    last = max((epoch for log in logs for epoch in log.epochs), default=0)
    limits = (min(losses, default=0.0), max(losses, default=1.0))
    drawn = [
        {
            "name": study.short(model),
            "folds": [(log.fold, figures.fold_key(index)) for index, log in enumerate(trainings[model.name].logs)],
            "figure": figures.learning_figure(
                trainings[model.name].logs, last, limits, f"learning curves of {study.short(model)}"
            ),
        }
        for model in study.trainings
        if trainings[model.name].logs
    ]
    return {
        "models": drawn,
        "without": [study.short(each) for each in study.trainings if not trainings[each.name].logs],
    }


def _cost(study: Study, trainings: Mapping[str, Training]) -> dict[str, Any]:
    return {"rows": [(study.short(model), cost_row(trainings[model.name])) for model in study.trainings]}


def _plan(study: Study, trainings: Mapping[str, Training]) -> dict[str, Any]:
    """Return what all plans share once, and the rest model by model."""
    plans = [plan_rows(trainings[model.name]) for model in study.trainings]
    keys = list(dict.fromkeys(key for plan in plans for key in plan))
    same = {key: plans[0][key] for key in keys if all(plan.get(key) == plans[0].get(key) for plan in plans)}
    return {
        "same": same,
        "keys": [key for key in keys if key not in same],
        "models": [(study.short(model), plan) for model, plan in zip(study.trainings, plans, strict=True)],
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
        "number": number,
        "signed": signed,
        "interval": interval,
        "p_value": p_value,
        "organ_label": organ_label,
        "breakable": breakable,
        "cases_in_words": cases_in_words,
        "sort_value": lambda value: "" if value is None or not math.isfinite(value) else f"{value:.6f}",
    }
    return environment


def _assets() -> dict[str, Any]:
    """Return style, script, and the policy that lets this script run and nothing else."""
    folder = files("unetr_nnunet.report") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return {"style": Markup(style), "script": Markup(script), "policy": policy}
