"""Description of a data set that can be converted: its origin, how its cases are found, and its help text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unetr_nnunet.dataset_conversion.source_cases import SourceCases
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import Split
from unetr_nnunet.organs import ORGAN_NAMES

Find = Callable[[Path, Sequence[SourceFile]], SourceCases]
"""Finds the cases in a source (a folder or a zip file, and the files in it)."""


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
        command: its name on the command line.
        title: for ``dataset.json``, as are description, reference and licence.
        description: what it shows.
        reference: where it comes from.
        licence: the licence, or under which terms it may be used.
        find: finds its cases in a download.
        splits: the ways to divide it; the first is the default.
        dataset_id: default number of the nnU-Net data set.
        name: default name of the nnU-Net data set, the part after ``DatasetXXX_``.
        summary: one line of help.
        wanted: what to give as the source, for help and errors.
        example: a source, for the example in the help.
        details: further help.
        labels: names of the organs in its label maps by their ids; those of BTCV unless it shows another part of the
            body.
        undrawn: ids of those that are not annotated in it.
        every_case_counts: whether each case must pass every check, because published splits name the cases. Otherwise
            bad cases can be left out, and values that do not look like Hounsfield units are only reported, unless most
            cases have them: in a large data set of crops a few show no air or no bone.
        table_files: names of the files beside the images that say which cases there are.
        case_id: returns the case identifier of a number, where MONAI's data lists name the cases by number.
        organ_choice: names of the organs that can be chosen, where not every patient has all.
        trainer_tokens: for trainers' names, where organs differ by side only.
        with_organs: returns the data set with the organs of these names, and only the patients that have them all.
    """

    command: str
    title: str
    description: str
    reference: str
    licence: str
    find: Find
    splits: tuple[Split, ...]
    dataset_id: int
    name: str
    summary: str
    wanted: str
    example: str
    details: str = ""
    labels: Mapping[int, str] = field(default_factory=lambda: ORGAN_NAMES)
    undrawn: tuple[int, ...] = ()
    every_case_counts: bool = False
    table_files: tuple[str, ...] = ()
    case_id: Callable[[int], str] | None = None
    organ_choice: tuple[str, ...] = ()
    trainer_tokens: tuple[str, ...] = ()
    with_organs: "Callable[[Sequence[str]], DataSet] | None" = None

    @property
    def drawn(self) -> dict[int, str]:
        """Names of the organs that are annotated in it by their ids."""
        return {organ: name for organ, name in self.labels.items() if organ not in self.undrawn}
