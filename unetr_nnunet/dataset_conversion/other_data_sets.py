"""The data sets besides BTCV, by their word on the command line. Their labels become the 13 organs of BTCV."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from unetr_nnunet.dataset_conversion import amos, conversion, flare, totalsegmentator, word
from unetr_nnunet.dataset_conversion.cases import Selection
from unetr_nnunet.dataset_conversion.conversion import Conversion, ConversionReport, DataSet
from unetr_nnunet.dataset_conversion.folder_cases import SplitName
from unetr_nnunet.dataset_conversion.source_files import SourceFile

Finder = Callable[[Path, Sequence[SourceFile], SplitName], Selection]

DATA_SETS: dict[str, tuple[DataSet, Finder]] = {
    module.DATA_SET.command: (module.DATA_SET, module.select) for module in (amos, flare, word, totalsegmentator)
}


def convert(settings: Conversion, command: str, split: SplitName) -> ConversionReport:
    """Check the whole source, then write the data set.

    Args:
        settings: what to convert, and how.
        command: which data set: a key of ``DATA_SETS``.
        split: ``own`` keeps the data set's validation cases as the one fixed fold; with ``cv5`` nnU-Net draws five
            folds over training and validation cases. Test cases are held out either way.

    Raises:
        ProblemsFoundError: every problem of the source at once; nothing was written.
        ValueError: the source is another data set, or an argument does not fit it.
        OSError: the target exists, the disk is full, or a file cannot be read or written.
    """
    data_set, find = DATA_SETS[command]
    return conversion.convert(settings, data_set, partial(_select, find, settings.source, split))


def _select(find: Finder, source: Path, split: SplitName, files: list[SourceFile]) -> Selection:
    return find(source, files, split)
