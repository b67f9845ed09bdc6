"""Which cases train, validate and are held out: splits as data, and their file formats.

nnU-Net's planner copies a ``splits_final.json`` in the raw data set folder to the preprocessed folder
(``ExperimentPlanner.__init__``), where the trainer reads it. Without one, nnU-Net draws its own seeded five folds.
"""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetr_nnunet.dataset_conversion.problems import Problem


@dataclass(frozen=True)
class SourceSplit:
    """A division of a data set by case numbers.

    Attributes:
        name: how it is called on the command line, or the file it was read from.
        training: labelled cases that go to ``imagesTr``; None for all that are there.
        folds: (training, validation) numbers of each fixed fold; empty leaves the folds to nnU-Net.
        test: cases that go to ``imagesTs``, with their labels where there are any; None for all unlabelled ones.
    """

    name: str
    training: tuple[int, ...] | None = None
    folds: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    test: tuple[int, ...] | None = None

    def chosen_training(self, labelled: Iterable[int]) -> tuple[int, ...]:
        """Numbers for ``imagesTr`` out of the labelled cases there are; never one that is held out."""
        held_out = set(self.test or ())
        return tuple(sorted(set(labelled if self.training is None else self.training) - held_out))

    def chosen_test(self, unlabelled: Iterable[int]) -> tuple[int, ...]:
        """Numbers for ``imagesTs``."""
        return tuple(sorted(set(unlabelled if self.test is None else self.test)))

    def problems(self, labelled: Collection[int], unlabelled: Collection[int]) -> list[Problem]:
        """Return one problem for each case that the split names and the source lacks."""
        missing_training = sorted(set(self.training or ()) - set(labelled))
        missing_test = sorted(set(self.test or ()) - set(labelled) - set(unlabelled))
        remedy = "complete the download, or choose --split cv5, which takes what is there"
        return [
            Problem(f"case {number:04d}", f"not in the source, but the split {self.name} has it for {use}", remedy)
            for numbers, use in ((missing_training, "training"), (missing_test, "testing"))
            for number in numbers
        ]

    def splits_final(self, prefix: str) -> list[dict[str, list[str]]]:
        """Return the content of ``splits_final.json``; empty where nnU-Net draws the folds."""
        return [
            {"train": [case_id(prefix, number) for number in train], "val": [case_id(prefix, number) for number in val]}
            for train, val in self.folds
        ]


def case_id(prefix: str, number: int) -> str:
    """Return nnU-Net's case identifier: ``case_id("BTCV", 1) == "BTCV_0001"``."""
    return f"{prefix}_{number:04d}"


def read_monai_list(path: Path) -> SourceSplit:
    """Read a MONAI data list (``dataset_0.json`` of the UNETR repository) as a split.

    Its ``training`` and ``validation`` lists become one fixed fold, ``test`` the test set; with an empty ``validation``
    nnU-Net draws the folds. Files are matched by the last four digits of their names, folders are ignored, and so is
    ``numTraining`` (80 in the file that everybody copies, where 24 cases are listed).

    Raises:
        ValueError: not such a list, or a case is both in training and in validation or test.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}): give a MONAI data list such as dataset_0.json") from error
    if not isinstance(content, dict) or not content.get("training"):
        raise ValueError(f'{path} has no "training" list: give a MONAI data list such as dataset_0.json')
    numbers = {key: _numbers(content.get(key) or [], path) for key in ("training", "validation", "test")}
    training, validation = numbers["training"], numbers["validation"]
    shared = sorted((set(training) & set(validation)) | (set(numbers["test"]) & (set(training) | set(validation))))
    if shared:
        raise ValueError(f"{path} names the cases {shared} in more than one of training, validation, test: keep one")
    return SourceSplit(
        path.name,
        training=tuple(sorted(training + validation)),
        folds=((training, validation),) if validation else (),
        test=numbers["test"] or None,
    )


def _numbers(entries: Any, path: Path) -> tuple[int, ...]:
    found = []
    for entry in entries:
        name = entry.get("image", "") if isinstance(entry, dict) else entry
        match = re.search(r"(\d{4})(?=(_0000)?\.nii(\.gz)?$)", str(name))
        if match is None:
            raise ValueError(f"{path}: the entry {entry!r} names no image with a four-digit number before .nii.gz")
        found.append(int(match.group(1)))
    return tuple(sorted(set(found)))
