"""Volume, mean intensity and flags of each organ, and ``volumes.csv``, which collects them over the cases of a run."""

import contextlib
import csv
import io
import re
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.inference.quality import WHOLE_CASE, Flags

COLUMNS = ("case", "organ", "ml", "mean_hu", "flags")


def organ_volumes(
    mask: npt.NDArray[np.uint8 | np.uint16],
    image: npt.NDArray[np.number[Any]],
    spacing_mm: Sequence[float],
    labels: Mapping[str, Sequence[int]],
) -> list[dict[str, Any]]:
    """Measure each organ of a mask.

    One pass, slice by slice, over foreground voxels only: memory for a few slices, whatever the volume.

    Args:
        mask: labels (Z, Y, X).
        image: intensities of the first channel on the same grid (Z, Y, X); HU for a CT.
        spacing_mm: size of a voxel along the three axes, in any order.
        labels: integers of each organ, or of each region, by name.

    Returns:
        One entry an organ, in the order of ``labels``: ``organ``, ``ml`` and ``mean_hu``, None where it is absent.

    Raises:
        ValueError: the shapes differ.
    """
    if mask.shape != image.shape:
        raise ValueError(f"the mask has shape {mask.shape}, its image {image.shape}; both must be on one grid")
    voxels = np.zeros(np.iinfo(mask.dtype).max + 1, np.int64)
    sums = np.zeros(len(voxels))
    for mask_slice, image_slice in zip(mask, image, strict=True):
        inside = mask_slice > 0
        found = mask_slice[inside]
        if found.size:
            voxels += np.bincount(found, minlength=len(voxels))
            sums += np.bincount(found, weights=image_slice[inside], minlength=len(voxels))
    ml_per_voxel = float(np.prod(spacing_mm)) / 1000
    return [
        {
            "organ": organ,
            "ml": float(voxels[integers].sum() * ml_per_voxel),
            "mean_hu": float(sums[integers].sum() / voxels[integers].sum()) if voxels[integers].any() else None,
        }
        for organ, integers in ((organ, list(integers)) for organ, integers in labels.items())
    ]


class CaseTable:
    """A CSV file with rows for each case, cases sorted by name; an existing file is continued.

    The file is rewritten whole after each case, so it is never cut short. It must have one process that writes, which
    may do so from several threads: parts of a job array need a table each.

    Attributes:
        path: the file; it appears with the first case.
        columns: their names, the case first.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Read the file if it is there.

        Raises:
            ValueError: the file is there but is no such table.
        """
        self.path, self.columns, self._lock = path, tuple(columns), threading.Lock()
        self._text: dict[str, str] = {}  # each case's rows as they stand in the file
        if path.exists():
            for case, rows in _read(path, self.columns).items():
                self._text[case] = _format(rows)

    @property
    def cases(self) -> set[str]:
        """Names of the cases in the table."""
        return set(self._text)

    def rows(self) -> list[list[str]]:
        """Return all rows, cases sorted by name, the case's name first."""
        with self._lock:
            return list(csv.reader(io.StringIO("".join(text for _, text in sorted(self._text.items())))))

    def replace_rows(self, case: str, rows: Sequence[Sequence[str]]) -> None:
        """Put a case's rows in, in the place of any it had, and rewrite the file.

        Args:
            case: name of the case.
            rows: what stands in the other columns.
        """
        with self._lock:
            self._text[case] = _format([(case, *row) for row in rows])
            self._write()

    def remove(self, case: str) -> None:
        """Take a case's rows out, if it has any, and rewrite the file."""
        with self._lock:
            if self._text.pop(case, None) is not None:
                self._write()

    def forget(self, case: str) -> None:
        """Take a case's rows out of this table and of those that runs with other parts have left beside it."""
        self.remove(case)
        self.forget_elsewhere(case)

    def forget_elsewhere(self, case: str) -> None:
        """Take a case's rows out of the tables that runs with other parts have left beside this one."""
        with self._lock:  # two threads would each read such a table and write back the other's case
            for table in self._other_parts():
                table.remove(case)

    def take_over_parts(self) -> None:
        """Put the rows of the tables that runs with other parts have left into this one, and remove those tables."""
        for table in self._other_parts():
            with self._lock:
                self._text = table._text | self._text
                self._write()
            table.path.unlink()

    def rows_with_parts(self) -> list[list[str]]:
        """Return the rows of this table and of those that runs with other parts have left beside it."""
        return [row for table in (*self._other_parts(), self) for row in table.rows()]

    def _other_parts(self) -> "list[CaseTable]":
        """Return the tables of the same kind for other parts, or for the whole; somebody else's files are left out."""
        kind, tables = re.sub(r"_part\d+of\d+$", "", self.path.stem), []
        for path in sorted(self.path.parent.glob(f"{kind}*.csv")):
            if path != self.path and re.fullmatch(rf"{re.escape(kind)}(_part\d+of\d+)?", path.stem):
                with contextlib.suppress(ValueError):
                    tables.append(CaseTable(path, self.columns))
        return tables

    def _write(self) -> None:
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            stream.write(_format([self.columns]))
            stream.writelines(text for _, text in sorted(self._text.items()))


class VolumesTable(CaseTable):
    """``volumes.csv``: one row for each case and organ.

    Args:
        path: file to continue, or to write with the first case.

    Raises:
        ValueError: the file is there but is no such table.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, COLUMNS)

    def replace(self, case: str, volumes: Sequence[Mapping[str, Any]], flags: Flags) -> None:
        """Put a case's organs in, as `organ_volumes` returns them, in the place of any it had.

        Args:
            case: name of the case.
            volumes: of its organs.
            flags: of its organs; those of the whole case stand at each of them.
        """
        whole = flags.get(WHOLE_CASE, [])
        rows = [
            (
                row["organ"],
                f"{row['ml']:.3f}",
                "" if row["mean_hu"] is None else f"{row['mean_hu']:.2f}",
                "; ".join([*flags.get(row["organ"], []), *whole]),
            )
            for row in volumes
        ]
        self.replace_rows(case, rows)


def _read(path: Path, columns: Sequence[str]) -> dict[str, list[Sequence[str]]]:
    cases: dict[str, list[Sequence[str]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            rows = list(csv.reader(stream, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no table of cases: {error}; remove it or name another output") from error
    width = len(rows[0]) if rows else 0  # an older version's table may lack the last columns
    if width < 2 or tuple(rows[0]) != columns[:width] or any(len(row) != width for row in rows):
        raise ValueError(f"{path} is no table with the columns {', '.join(columns)}; remove it or name another output")
    for row in rows[1:]:
        cases[row[0]].append([*row, *[""] * (len(columns) - width)])
    return cases


def _format(rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
