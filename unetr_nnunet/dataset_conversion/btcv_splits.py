"""The published divisions of BTCV, as data.

``unetr-24-6``: ``dataset_0.json`` of Project-MONAI/research-contributions (UNETR/BTCV), one fold of 24 + 6 cases.
``transunet-18-12``: the lists of TransUNet (arXiv 2102.04306), 12 held-out cases; the usual "Synapse" protocol of
eight organs. Those papers train on all 18 (nnU-Net's fold ``all``); the five folds within the 18 stay nnU-Net's own.
"""

from unetr_nnunet.dataset_conversion.splits import SourceSplit

TRAINING_NUMBERS: tuple[int, ...] = (*range(1, 11), *range(21, 41))
TEST_NUMBERS: tuple[int, ...] = tuple(range(61, 81))

_TRANSUNET_TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)

SPLITS: dict[str, SourceSplit] = {
    "cv5": SourceSplit("cv5"),
    "unetr-24-6": SourceSplit(
        "unetr-24-6",
        training=TRAINING_NUMBERS,
        folds=(((*range(1, 11), *range(21, 35)), tuple(range(35, 41))),),
    ),
    "transunet-18-12": SourceSplit(
        "transunet-18-12",
        training=tuple(number for number in TRAINING_NUMBERS if number not in _TRANSUNET_TEST),
        test=_TRANSUNET_TEST,
    ),
}
"""``cv5`` is nnU-Net's own seeded five folds over every labelled case."""
