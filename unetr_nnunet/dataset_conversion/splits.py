"""Splits as data: which cases train, validate and are held out, and how to read a MONAI data list.

nnU-Net's planner copies a ``splits_final.json`` in the raw data set folder to the preprocessed folder
(``ExperimentPlanner.__init__``), where the trainer reads it. Without one, nnU-Net draws its own seeded five folds.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetr_nnunet.dataset_conversion.cases import Selection
from unetr_nnunet.dataset_conversion.problems import Problem
from unetr_nnunet.dataset_conversion.source_cases import SourceCases
from unetr_nnunet.nnunet.json_file import JSON_OBJECT, read_json


@dataclass(frozen=True)
class Split:
    """A way to divide a data set, by case identifiers.

    Attributes:
        name: its name on the command line, or the file it was read from.
        summary: one line of help.
        keeps_validation: the data set's own validation cases are the one fixed fold.
        training: cases that go to ``imagesTr``; None for all labelled ones.
        folds: (training, validation) cases of each fixed fold; empty leaves the folds to nnU-Net.
        test: cases that go to ``imagesTs``, with their labels where there are any; None for the data set's own.
    """

    name: str
    summary: str = ""
    keeps_validation: bool = False
    training: tuple[str, ...] | None = None
    folds: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    test: tuple[str, ...] | None = None

    def select(self, cases: SourceCases) -> Selection:
        """Return the cases that the split takes; one that is held out never trains."""
        fit, validation, own_test = (cases.parts[part] for part in ("training", "validation", "test"))
        labelled = fit | validation
        available = labelled | own_test
        training = sorted(set(labelled if self.training is None else self.training) - set(self.test or ()))
        test = sorted(own_test if self.test is None else self.test)
        folds = [{"train": list(train), "val": list(val)} for train, val in self.folds]
        if self.keeps_validation and fit and validation:
            folds = [{"train": sorted(fit), "val": sorted(validation)}]
        return Selection(
            self.name,
            {name: available[name] for name in training if name in available},
            {name: available[name] for name in test if name in available},
            tuple(folds),
            left_out=tuple(name for name in sorted(available) if name not in {*training, *test}),
            problems=cases.problems,
            case_problems=(*cases.case_problems, *self._missing(cases, set(labelled), set(available))),
            notes=cases.notes,
        )

    def _missing(self, cases: SourceCases, labelled: set[str], available: set[str]) -> list[Problem]:
        """Return a problem for each case of the split that is not in the source, or unsuitable."""
        unusable = set(cases.identifiers) - available - set(cases.unsuitable)  # has a problem of its own
        remedy = "complete the download, or choose --split cv5, which takes what is there"
        return [
            Problem(
                f"case {name}",
                f"{cases.unsuitable.get(name, 'not in the source')}, but split {self.name} uses it for {use}",
                remedy,
            )
            for use, wanted, there in (("training", self.training, labelled), ("testing", self.test, available))
            for name in sorted(set(wanted or ()) - there - unusable)
        ]


OWN = Split("own", "training and validation cases as the data set divides them: one fixed fold", keeps_validation=True)
CV5 = Split("cv5", "nnU-Net draws five folds over all labelled cases that are not for testing")


def read_monai_list(path: Path, case_id: Callable[[int], str]) -> Split:
    """Read a MONAI data list (``dataset_0.json`` of the UNETR repository) as a split.

    Its ``training`` and ``validation`` lists become one fixed fold, ``test`` the test set; with an empty ``validation``
    nnU-Net draws the folds. Files are matched by the last four digits of their names, folders are ignored, and so is
    ``numTraining`` (80 in the file that everybody copies, where 24 cases are listed).

    Args:
        path: the list.
        case_id: returns the case identifier of a number.

    Raises:
        ValueError: not such a list, or a case is both in training and in validation or test.
    """
    remedy = "give a MONAI data list such as dataset_0.json"
    content = read_json(path, JSON_OBJECT, remedy)
    if not content.get("training"):
        raise ValueError(f'{path} has no "training" list: {remedy}')
    training, validation, test = (
        tuple(sorted({case_id(_number(entry, path)) for entry in content.get(key) or []}))
        for key in ("training", "validation", "test")
    )
    shared = sorted((set(training) & set(validation)) | (set(test) & {*training, *validation}))
    if shared:
        raise ValueError(
            f"{path} lists {', '.join(shared)} more than once among training, validation and test: keep one"
        )
    return Split(
        path.name,
        training=tuple(sorted(training + validation)),
        folds=((training, validation),) if validation else (),
        test=test or None,
    )


def _number(entry: Any, path: Path) -> int:
    name = entry.get("image", "") if isinstance(entry, dict) else entry
    match = re.search(r"(\d{4})(?=(_0000)?\.nii(\.gz)?$)", str(name))
    if match is None:
        raise ValueError(f"{path}: the entry {entry!r} has no image name with four digits before .nii.gz")
    return int(match.group(1))
