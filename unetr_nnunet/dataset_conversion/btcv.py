"""BTCV ("Multi-Atlas Labeling Beyond the Cranial Vault", abdomen) from its download to nnU-Net's raw format.

Data: https://www.synapse.org/Synapse:syn3193805 (registration needed).
Every file is checked before anything is written.
"""

import re
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path

from unetr_nnunet.dataset_conversion import conversion as engine
from unetr_nnunet.dataset_conversion.btcv_source import SourceCase, find_cases
from unetr_nnunet.dataset_conversion.cases import Case, Selection
from unetr_nnunet.dataset_conversion.conversion import Conversion, ConversionReport, DataSet
from unetr_nnunet.dataset_conversion.label_layers import BTCV_VALUES, LabelLayer
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.dataset_conversion.splits import SourceSplit, case_id

CASE_PREFIX = "BTCV"
DATA_SET = DataSet(
    command="btcv",
    title="BTCV abdomen",
    description="Multi-Atlas Labeling Beyond the Cranial Vault: portal venous abdominal CT, 13 organs",
    reference="https://www.synapse.org/Synapse:syn3193805",
    licence="terms of Synapse syn3193805 (registration needed; not to be passed on)",
    every_case_counts=True,
)


@dataclass(frozen=True)
class BtcvConversion(Conversion):
    """What to convert, and how; see ``Conversion``.

    Attributes:
        source: ``RawData.zip``, the extracted folder, ``RawData/RawData``, or ``Training``.
        split: which cases train and which are held out.
    """

    split: SourceSplit
    _: KW_ONLY
    dataset_id: int = 17
    name: str = "BTCV"


def convert(conversion: BtcvConversion) -> ConversionReport:
    """Check the whole source, then write the data set.

    Raises:
        ProblemsFoundError: every problem of the source at once; nothing was written.
        ValueError: the source is not BTCV, or an argument does not fit it.
        OSError: the target exists, the disk is full, or a file cannot be read or written.
    """
    return engine.convert(conversion, DATA_SET, partial(_select, conversion))


def _select(conversion: BtcvConversion, files: list[SourceFile]) -> Selection:
    split = conversion.split
    labelled, unlabelled, problems = find_cases(conversion.source, files)
    reported = {int(digits) for problem in problems for digits in re.findall(r"\d{4}", Path(problem.file).name)}
    missing = split.problems(labelled.keys() | reported, unlabelled)
    available = labelled | unlabelled
    training, test = (
        {case_id(CASE_PREFIX, number): _case(available[number]) for number in numbers if number in available}
        for numbers in (split.chosen_training(labelled), split.chosen_test(unlabelled))
    )
    identifiers = (case_id(CASE_PREFIX, number) for number in sorted(available))
    return Selection(
        split.name,
        training,
        test,
        tuple(split.splits_final(CASE_PREFIX)),
        left_out=tuple(name for name in identifiers if name not in training and name not in test),
        problems=(*problems, *missing),
    )


def _case(case: SourceCase) -> Case:
    return Case(case.image, () if case.label is None else (LabelLayer(case.label, BTCV_VALUES),))
