"""Short ways to a conversion of a test's download."""

from pathlib import Path

import pytest

from unetr_nnunet.dataset_conversion.cases import Selection
from unetr_nnunet.dataset_conversion.conversion import Conversion, convert
from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError
from unetr_nnunet.dataset_conversion.source_files import open_source
from unetr_nnunet.dataset_conversion.sources import DATA_SETS
from unetr_nnunet.dataset_conversion.splits import Split


def split_of(command: str, name: str) -> Split:
    return next(split for split in DATA_SETS[command].splits if split.name == name)


def conversion_of(command: str, source: Path, raw_root: Path, split: str | None = None, **changes) -> Conversion:
    data_set = DATA_SETS[command]
    chosen = split_of(command, split) if split else data_set.splits[0]
    names = {"dataset_id": data_set.dataset_id, "name": data_set.name}
    return Conversion(source, raw_root, data_set, chosen, **(names | changes))


def selected(command: str, source: Path, split: str | None = None) -> Selection:
    """What a split takes of a download."""
    data_set = DATA_SETS[command]
    with open_source(source, data_set.table_files) as files:
        found = data_set.find(source, files)
    return (split_of(command, split) if split else data_set.splits[0]).select(found)


def problems_of(conversion: Conversion) -> tuple[Problem, ...]:
    """Convert, expect a refusal, and check that it left nothing behind."""
    with pytest.raises(ProblemsFoundError) as caught:
        convert(conversion)
    assert not conversion.raw_root.exists()
    assert all(problem.file and problem.fact and problem.remedy for problem in caught.value.problems)
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def only_problem_of(conversion: Conversion) -> Problem:
    problems = problems_of(conversion)
    assert len(problems) == 1, problems
    return problems[0]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []
