"""``quality.csv``: what the flags of each case and organ follow from, and the flags; and one line for all cases."""

from collections.abc import Iterable
from pathlib import Path

from unetr_nnunet.inference.quality import WHOLE_CASE, CaseMeasures, Flags
from unetr_nnunet.inference.volumes_table import CaseTable

COLUMNS = ("case", "organ", "parts", "at_border", "probability", "fold_dice", "flags")
MOST_NAMED = 5
"""So many cases are named in the line for all."""


class QualityTable(CaseTable):
    """``quality.csv``: one row for each case and organ, and one for a case that is suspicious as a whole.

    Args:
        path: file to continue, or to write with the first case.

    Raises:
        ValueError: the file is there but is no such table.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, COLUMNS)

    def replace(self, case: str, names: Iterable[str], measures: CaseMeasures, flags: Flags) -> None:
        """Put a case in, in the place of what it had.

        Args:
            case: its name.
            names: all organs of the model.
            measures: of the case.
            flags: of the case, see `quality.check_case`.
        """
        rows = [(WHOLE_CASE, "", "", "", "", "; ".join(flags[WHOLE_CASE]))] if WHOLE_CASE in flags else []
        for name in names:
            own = measures.organs.get(name)
            rows.append(
                (
                    name,
                    "0" if own is None else str(own.parts),
                    "" if own is None else ("yes" if own.at_border else "no"),
                    _decimals(measures.probabilities.get(name)),
                    _decimals(measures.fold_dice.get(name)),
                    "; ".join(flags.get(name, [])),
                )
            )
        self.replace_rows(case, rows)

    def summary(self) -> str:
        """Return one line on all cases: how many are to be looked at, and which, each with its first reason.

        Returns:
            "" where the table is empty.
        """
        reasons: dict[str, list[str]] = {}
        for case, organ, *_, flags in self.rows():
            if flags:
                reasons.setdefault(case, []).append(flags if organ == WHOLE_CASE else f"{organ}: {flags}")
        count = len(self.cases)
        if not count:
            return ""
        if not reasons:
            return f"no mask of {count} case{'' if count == 1 else 's'} stands out"
        named = [f"{case} ({own[0]}{f'; {len(own) - 1} more' * (len(own) > 1)})" for case, own in reasons.items()]
        more = [f"{len(named) - MOST_NAMED} more in {self.path.name}"] if len(named) > MOST_NAMED else []
        return f"{len(reasons)} of {count} cases to look at: {', '.join([*named[:MOST_NAMED], *more])}"


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
