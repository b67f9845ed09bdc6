"""Problems of a download or a raw data set: each with its file, the fact and the remedy, reported all at once."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One reason not to convert.

    Attributes:
        file: name of the file below the source.
        fact: what was found, with numbers.
        remedy: what the user can do.
    """

    file: str
    fact: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.fact} -> {self.remedy}"


class ProblemsFoundError(ValueError):
    """Raised with every problem of a source at once, before anything is written.

    Args:
        problems: all of them.
        way_out: how to convert in spite of them; empty where there is no way.
        consequence: what was not done.
    """

    def __init__(
        self, problems: Sequence[Problem], way_out: str = "", consequence: str = "found, nothing was written"
    ) -> None:
        self.problems = tuple(problems)
        listing = "\n".join(f"  {problem}" for problem in self.problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        super().__init__(f"{count} {consequence}:\n{listing}" + (f"\n  {way_out}" if way_out else ""))
