"""A study as data: models, the folds they are trained on, and everything around the trainings.

A study comes from the options of ``unetr_nnunet crossval`` or from a study file (``study_file``). A seed is part of a
trainer's name, so each seed is a model of its own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.json_file import read_json
from unetr_nnunet.nnunet.plans_file import DEFAULT_PLANS, SHARED_BY_CONFIGURATION
from unetr_nnunet.nnunet.stock_trainers import stock_trainers
from unetr_nnunet.trainers.names import BASE_NAME, is_parsed, parse_trainer_name

FILE = "study.json"
CHOICE = "choice.json"
"""The settings that the choice of the best model depends on."""
DEFAULT_CONFIGURATION = "3d_fullres"
FIVE_FOLDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Model:
    """A trained model as nnU-Net has it: one result folder with several folds.

    Attributes:
        trainer: class name of the trainer.
        plans: name of the plans.
        configuration: configuration in the plans.
    """

    trainer: str
    plans: str = DEFAULT_PLANS
    configuration: str = DEFAULT_CONFIGURATION

    @property
    def identifier(self) -> str:
        """Name of its folder in ``nnUNet_results``."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"


@dataclass(frozen=True)
class Table:
    """A table of the study's page.

    Attributes:
        title: what is compared.
        rows: (label, trainer without its seed), in order; TRAINER__PLANS or TRAINER__PLANS__CONFIGURATION where a
            trainer has several.
    """

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Study:
    """Models, folds and what surrounds them.

    Attributes:
        dataset: number of the data set.
        models: trained on every fold.
        folds: folds of ``splits_final.json``; five by default.
        data: where the raw data set comes from if it is not there yet: arguments of the ``unetr_nnunet`` commands that
            make it, in order.
        plans: how plans are made that are neither there nor nnU-Net's own: a stock ``planner``, or options of
            ``unetr_nnunet plan``.
        configurations: configurations to add to all plans, as nnU-Net's ``inherits_from`` understands them.
        candidates: how many of the best models are tried in ensembles; 1 for none.
        cores: processor cores of one training without a GPU; all of them by default.
        tables: tables of the study's page.
    """

    dataset: int
    models: tuple[Model, ...]
    folds: tuple[int, ...] = FIVE_FOLDS
    data: tuple[tuple[str, ...], ...] = ()
    plans: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configurations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    candidates: int = 5
    cores: int | None = None
    tables: tuple[Table, ...] = ()

    def __post_init__(self) -> None:
        twice = sorted({model.identifier for model in self.models if self.models.count(model) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice: name each model once")
        if not self.models:
            raise ValueError("a study needs at least one trainer: name it with -tr, or in [[models]]")
        if not self.folds:
            raise ValueError("a study needs at least one fold: name some of 0 1 2 3 4")
        if len(set(self.folds)) < len(self.folds) or not set(self.folds) <= set(FIVE_FOLDS):
            raise ValueError(f"folds {' '.join(map(str, self.folds))}: name some of 0 1 2 3 4, without repetition")
        for model in self.models:
            _check_trainer(model.trainer)
            _check_name("plans", model.plans)
            _check_name("configuration", model.configuration)
        for name, configuration in self.configurations.items():
            _check_name("configuration", name)
            _refuse_shared_data(name, configuration)
        for table in self.tables:
            for _, row in table.rows:
                self.row_models(row)

    @property
    def plan_names(self) -> list[str]:
        """Names of the plans in use, in order."""
        return list(dict.fromkeys(model.plans for model in self.models))

    def model(self, identifier: str) -> Model:
        """Return the model of this identifier."""
        return next(model for model in self.models if model.identifier == identifier)

    def row_models(self, row: str) -> list[Model]:
        """Return the models of a table's row, one for each seed.

        Args:
            row: as `Table` has it; of a trainer with several plans or configurations those that come first.

        Raises:
            ValueError: there is no such model.
        """

        def parts(model: Model) -> tuple[str, str, str]:
            return without_seed(model.trainer), model.plans, model.configuration

        wanted = tuple(row.split("__"))
        matching = [parts(model) for model in self.models if parts(model)[: len(wanted)] == wanted]
        if not matching:
            there = ", ".join(dict.fromkeys(without_seed(model.trainer) for model in self.models))
            raise ValueError(f"a table has the row {row}, which is no model of the study; it has {there}")
        return [model for model in self.models if parts(model) == matching[0]]


def with_seeds(trainers: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Return each trainer with each seed in its name; nnU-Net's own, whose names hold none, once.

    Raises:
        ValueError: a trainer's name has a seed already, or is that of a class that somebody wrote.
    """
    named = []
    stock = stock_trainers() if seeds else set()
    for trainer in trainers:
        if seeds and re.search(r"_seed\d+$", trainer):
            raise ValueError(f"{trainer} names a seed already: leave it out, or leave out the list of seeds")
        if seeds and not is_parsed(trainer) and trainer not in stock:
            raise ValueError(
                f"{trainer} is a class of its own, whose name holds no seed: write one class for each seed "
                "(settings = TrainerName(..., seed=0)) and name those, without the list of seeds"
            )
        named += [f"{trainer}_seed{seed}" for seed in seeds] if seeds and is_parsed(trainer) else [trainer]
    return named


def without_seed(trainer: str) -> str:
    """Return a trainer's name without its seed."""
    return re.sub(r"_seed\d+$", "", trainer)


def _check_name(what: str, name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name) or "__" in name:
        raise ValueError(f"{what} = {name!r}: use letters, digits, '.', '-' and single '_'")


def _refuse_shared_data(name: str, configuration: Mapping[str, Any]) -> None:
    """Refuse a configuration that inherits where its data lie, but not how they are preprocessed."""
    changed = sorted(set(SHARED_BY_CONFIGURATION) & set(configuration))
    if changed and "inherits_from" in configuration and "data_identifier" not in configuration:
        raise ValueError(
            f"[configurations.{name}] changes {', '.join(changed)}, and its data would replace those of "
            f'{configuration["inherits_from"]}: give it a folder of its own, data_identifier = "nnUNetPlans_{name}"'
        )


def _check_trainer(trainer: str) -> None:
    if is_parsed(trainer):
        parse_trainer_name(trainer)
    elif not re.fullmatch(r"[A-Za-z]\w*", trainer) or "__" in trainer:
        raise ValueError(f"{trainer!r} is not the name of a trainer: give a class name such as {BASE_NAME}")


def write_study(study: Study, path: Path) -> None:
    """Write a study for its steps."""
    _write_where_changed(asdict(study), path)


def write_choice(study: Study, path: Path) -> None:
    """Write what the choice of the best model depends on."""
    content = asdict(study)
    _write_where_changed({name: content[name] for name in ("dataset", "models", "folds", "candidates")}, path)


def _write_where_changed(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file; one that holds the content already stays, since steps depend on its time."""
    text = json.dumps(content, indent=1)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_study(path: Path) -> Study:
    """Read what `write_study` has written.

    Raises:
        ValueError: the file is damaged.
    """
    return read_json(path, TypeAdapter(Study), "remove it and start the study again: it continues")
