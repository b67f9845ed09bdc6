"""A study as data: which models are trained on which folds of a data set, and what is asked of them.

A study is written in TOML (see ``studies/`` and docs/how-to/crossval.md) or follows from the words of
``unetr_nnunet crossval``. A seed belongs to a trainer's name, so each seed is a model of its own.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.plans_file import SHARED_BY_CONFIGURATION

FILE = "study.json"
CHOICE = "choice.json"
"""What the choice of the best model depends on."""
DEFAULT_PLANS, DEFAULT_CONFIGURATION = "nnUNetPlans", "3d_fullres"
OUR_TRAINER = "nnUNetTrainerUNETR"
PLAN_OPTIONS = frozenset({"planner", "architecture", "size", "gpu_memory", "spacing", "patch_size", "batch_size"})
"""How plans can be made: nnU-Net's planner, or options of ``unetr_nnunet plan``."""


@dataclass(frozen=True)
class Model:
    """What nnU-Net calls a trained model: one result folder with several folds.

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
        data: where the raw data set comes from if it is not there yet: words of the commands that make it, in order,
            each without ``unetr_nnunet``.
        plans: how plans are made that are neither there nor nnU-Net's own: a stock ``planner``, or ``architecture``,
            ``size`` and ``gpu_memory`` of ``unetr_nnunet plan``.
        configurations: configurations to add to all plans, as nnU-Net's ``inherits_from`` understands them.
        candidates: as many of the best models are tried in ensembles; 1 for none.
        cores: processor cores of one training without a GPU; all of them by default.
        tables: tables of the study's page.
    """

    dataset: int
    models: tuple[Model, ...]
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
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
            raise ValueError("a study needs a trainer at least: name it with -tr, or in [[models]]")
        if not self.folds:
            raise ValueError("a study needs a fold at least: name some of 0 1 2 3 4")
        if len(set(self.folds)) < len(self.folds) or not all(fold in range(5) for fold in self.folds):
            raise ValueError(f"folds {' '.join(map(str, self.folds))}: name some of 0 1 2 3 4, each once")
        if self.candidates < 1:
            raise ValueError(f"candidates = {self.candidates}: at least 1, which tries no ensemble")
        for model in self.models:
            _check_trainer(model.trainer)
            _check_name("plans", model.plans)
            _check_name("configuration", model.configuration)
        for name, configuration in self.configurations.items():
            _check_name("configuration", name)
            _refuse_others_data(name, configuration)
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

        def named(model: Model) -> tuple[str, str, str]:
            return without_seed(model.trainer), model.plans, model.configuration

        words = tuple(row.split("__"))
        found = [named(model) for model in self.models if named(model)[: len(words)] == words]
        if not found:
            there = ", ".join(dict.fromkeys(without_seed(model.trainer) for model in self.models))
            raise ValueError(f"a table has the row {row}, and no model is called so; there are {there}")
        return [model for model in self.models if named(model) == found[0]]


def with_seeds(trainers: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Return each trainer with each seed in its name; nnU-Net's own, whose names hold none, once.

    Raises:
        ValueError: a trainer names a seed already.
    """
    named = []
    for trainer in trainers:
        if seeds and re.search(r"_seed\d+$", trainer):
            raise ValueError(f"{trainer} names a seed already: leave it out, or leave out the list of seeds")
        own = trainer.startswith(OUR_TRAINER)
        named += [f"{trainer}_seed{seed}" for seed in seeds] if seeds and own else [trainer]
    return named


def without_seed(trainer: str) -> str:
    """Return a trainer's name without its seed."""
    return re.sub(r"_seed\d+$", "", trainer)


def read_study(path: Path) -> Study:
    """Read a study from a TOML file.

    Raises:
        ValueError: the file is no TOML, or holds what no study has; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no study file {path}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return _study(content)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _study(content: dict[str, Any]) -> Study:
    known = {each.name for each in fields(Study)} | {"seeds", "plans_name", "configuration"}
    _refuse_unknown(content, known, "a study")
    if not _is_number(content.get("dataset")):
        raise ValueError("dataset = NUMBER is missing: the number of the data set in nnUNet_raw")
    seeds = _value(content, "seeds", [], _is_numbers, "a list of numbers")
    data = _value(content, "data", [], _is_commands, '[["COMMAND", "WORD"], ...], each command a list of words')
    defaults = {
        "plans": _value(content, "plans_name", DEFAULT_PLANS, _is_text, "a name"),
        "configuration": _value(content, "configuration", DEFAULT_CONFIGURATION, _is_text, "a name"),
    }
    models = []
    for entry in _value(content, "models", [], _is_sections, "[[models]], one for each model"):
        _refuse_unknown(entry, {"trainer", *defaults}, "an entry of [[models]]")
        named = {
            key: _value(entry, key, default, _is_text, "a name")
            for key, default in ({"trainer": ""} | defaults).items()
        }
        models += [Model(**{**named, "trainer": trainer}) for trainer in with_seeds([named["trainer"]], seeds)]
    plans = _value(content, "plans", {}, _is_named_sections, "[plans.NAME], one for each")
    for name, how in plans.items():
        _refuse_unknown(how, PLAN_OPTIONS, f"[plans.{name}]")
    return Study(
        content["dataset"],
        tuple(models),
        tuple(_value(content, "folds", [0, 1, 2, 3, 4], _is_numbers, "a list of numbers")),
        data=tuple(tuple(str(word) for word in command) for command in data),
        plans=plans,
        configurations=_value(content, "configurations", {}, _is_named_sections, "[configurations.NAME], one for each"),
        candidates=_value(content, "candidates", 5, _is_number, "a number"),
        cores=_value(content, "cores", None, _is_count, "a number of 1 or more"),
        tables=tuple(map(_table, _value(content, "tables", [], _is_sections, "[[tables]], one for each table"))),
    )


def _table(entry: dict[str, Any]) -> Table:
    _refuse_unknown(entry, {"title", "rows"}, "an entry of [[tables]]")
    title = _value(entry, "title", None, _is_text, "the table's title")
    rows = _value(entry, "rows", None, _is_rows, "[[LABEL, TRAINER], ...]")
    return Table(title, tuple((label, trainer) for label, trainer in rows))


def _value(content: Mapping[str, Any], key: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
    """Return a value of a study's file, or the default where it has none."""
    if key not in content and default is not None:
        return default
    value = content.get(key)
    if not fits(value):
        raise ValueError(f"{key} = {value!r}: expected {expected}; see studies/")
    return value


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 1)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_commands(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(command, list) and command for command in value)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and all(map(_is_text, row)) for row in value
    )


def _is_sections(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(section, dict) for section in value)


def _is_named_sections(value: Any) -> bool:
    return isinstance(value, dict) and _is_sections(list(value.values()))


def _refuse_unknown(content: Mapping[str, Any], known: Set[str], what: str) -> None:
    for name in content:
        if name not in known:
            raise ValueError(f"{name!r} is nothing that {what} has; it has {', '.join(sorted(known))}")


def _check_name(what: str, name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name) or "__" in name:
        raise ValueError(f"{what} = {name!r}: a name of letters, digits, '.', '-' and single '_' is wanted")


def _refuse_others_data(name: str, configuration: Mapping[str, Any]) -> None:
    """Refuse a configuration that inherits where its data lie, but not how they are preprocessed."""
    changed = sorted(set(SHARED_BY_CONFIGURATION) & set(configuration))
    if changed and "inherits_from" in configuration and "data_identifier" not in configuration:
        raise ValueError(
            f"[configurations.{name}] changes {', '.join(changed)}, and its data would replace those of "
            f'{configuration["inherits_from"]}: give it a folder of its own, data_identifier = "nnUNetPlans_{name}"'
        )


def _check_trainer(trainer: str) -> None:
    if trainer.startswith(OUR_TRAINER):
        from unetr_nnunet.trainers.names import parse_trainer_name

        parse_trainer_name(trainer)
    elif not re.fullmatch(r"[A-Za-z]\w*", trainer) or "__" in trainer:
        raise ValueError(f"{trainer!r} is no name of a trainer: give a class name such as {OUR_TRAINER}")


def write_json(study: Study, path: Path) -> None:
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


def read_json(path: Path) -> Study:
    """Read what `write_json` has written.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and start the study again, it goes on") from error
    content["models"] = tuple(Model(**model) for model in content["models"])
    content["folds"] = tuple(content["folds"])
    content["data"] = tuple(map(tuple, content["data"]))
    content["tables"] = tuple(Table(table["title"], tuple(map(tuple, table["rows"]))) for table in content["tables"])
    return Study(**content)
