"""Read a study file: TOML with the keys of ``_StudyFile``, see ``studies/`` and docs/how-to/crossval.md."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unetr_nnunet.experiments.study import DEFAULT_CONFIGURATION, FIVE_FOLDS, Model, Study, Table, with_seeds
from unetr_nnunet.nnunet.plans_file import DEFAULT_PLANS

STUDIES = Path(__file__).parent / "studies"
"""The studies that come with the package."""

Number = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Row = Annotated[list[str], Field(min_length=2, max_length=2)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _ModelSection(_Section):
    trainer: str
    plans: str | None = None
    configuration: str | None = None


class _PlansSection(_Section):
    """nnU-Net's planner, or options of ``unetr_nnunet plan``."""

    planner: str | None = None
    architecture: str | None = None
    size: str | None = None
    gpu_memory: int | float | None = None
    tflop_per_step: int | float | None = None
    spacing: list[float] | None = None
    patch_size: list[Count] | None = None
    token_size: list[Count] | None = None
    batch_size: Count | None = None

    @model_validator(mode="after")
    def _one_planner(self) -> "_PlansSection":
        others = self.model_fields_set - {"planner"}
        if self.planner and others:
            raise ValueError(f"planner is nnU-Net's and does not know {', '.join(sorted(others))}: leave out either")
        return self


class _TableSection(_Section):
    title: str
    rows: list[Row]


class _StudyFile(_Section):
    dataset: Number
    models: list[_ModelSection] = []
    folds: list[Number] = list(FIVE_FOLDS)
    seeds: list[Number] = []
    plans_name: str = DEFAULT_PLANS
    configuration: str = DEFAULT_CONFIGURATION
    data: list[Annotated[list[str | int], Field(min_length=1)]] = []
    plans: dict[str, _PlansSection] = {}
    configurations: dict[str, dict[str, Any]] = {}
    candidates: Count = 5
    cores: Count | None = None
    tables: list[_TableSection] = []

    def study(self) -> Study:
        models = [
            Model(trainer, section.plans or self.plans_name, section.configuration or self.configuration)
            for section in self.models
            for trainer in with_seeds([section.trainer], self.seeds)
        ]
        return Study(
            self.dataset,
            tuple(models),
            tuple(self.folds),
            data=tuple(tuple(map(str, command)) for command in self.data),
            plans={name: section.model_dump(exclude_unset=True) for name, section in self.plans.items()},
            configurations=self.configurations,
            candidates=self.candidates,
            cores=self.cores,
            tables=tuple(Table(table.title, tuple((row[0], row[1]) for row in table.rows)) for table in self.tables),
        )


_SECTIONS: dict[str, tuple[type[_Section], str]] = {
    "models": (_ModelSection, "an entry of [[models]]"),
    "plans": (_PlansSection, "[plans.{}]"),
    "tables": (_TableSection, "an entry of [[tables]]"),
}


def find_study(name: Path) -> Path:
    """Return a study file: by its path, or by its name one of those that come with the package.

    Raises:
        FileNotFoundError: it does not exist.
    """
    path = name if name.is_file() else STUDIES / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(sorted(study.stem for study in STUDIES.glob("*.toml")))
        raise FileNotFoundError(f"there is no study file {name}; studies by name: {names}")
    return path


def read_study_file(path: Path) -> Study:
    """Read a study file.

    Raises:
        ValueError: the file is not TOML, or its content is not that of a study; the message names everything wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    try:
        return _StudyFile.model_validate(content).study()
    except ValidationError as error:
        wrong = [_explain(detail) for detail in error.errors(include_url=False)]
        raise ValueError(f"{path}: {'; '.join(dict.fromkeys(wrong))}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _explain(detail: Any) -> str:
    where, name = detail["loc"][:-1], detail["loc"][-1]
    if detail["type"] == "extra_forbidden":
        section, title = _SECTIONS[where[0]] if where else (_StudyFile, "a study file")
        return f"unknown key {name!r}; {title.format(*where[1:])} may contain {', '.join(section.model_fields)}"
    place = ".".join(map(str, detail["loc"]))
    if detail["type"] == "missing":
        return f"{place} is missing"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{place}: {message}" if detail["type"] == "value_error" else f"{place} = {detail['input']!r}: {message}"
