"""Protocols: four ways to score the same masks, all published as "BTCV Dice"; and tolerances of surfaces.

A protocol says which organs are scored and which are joined, on which grid, and what an organ scores that truth,
prediction or both lack. The same predictions score points apart under them, so every table names its protocol, and none
mixes two. Sources, each read in the code or thread named: nnU-Net v2 ``nnunetv2/evaluation/evaluate_predictions.py``;
UNETR in MONAI research-contributions ``UNETR/BTCV`` (``test.py``, ``utils/utils.py``, ``utils/data_utils.py``); UNETR++
``unetr_pp/inference_synapse.py``; TransUNet ``utils.py`` (which counts a false positive as 1 where truth is empty;
kept, because its tables were made so) and ``test.py``; for the test server, whose code is not published, table 1 of the
UNETR paper (12 columns, one for both adrenal glands) and research-contributions issue 132 ("Remove DSC scores of
missing organs").

Tolerances of normalised surface Dice (NSD): ``nnunet`` is 1 mm for every structure, a common choice with nnU-Net, which
itself names none (version 1 takes a threshold in millimetres in ``nnunet/evaluation/surface_dice.py``, without a
default, and counts voxels, not areas). ``flare`` is the FLARE 2022 challenge's table, larger for organs whose border is
hard to see (github.com/JunMa11/FLARE, ``FLARE22/Evaluation/FLARE22_DSC_NSD_Eval.py``). That script also scores aorta,
vena cava and esophagus only on slices where truth holds them; here, as everywhere else, all slices count.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from unetr_nnunet.nnunet.label_table import LabelTable
from unetr_nnunet.organs import CHALLENGE_12, ORGAN_NAMES, SYNAPSE_8, find_organ

ADRENAL_GLANDS = "adrenal_glands"
TOLERANCES: tuple[str, ...] = ("nnunet", "flare")
DEFAULT_TOLERANCE = "nnunet"
NNUNET_MM = 1.0
FLARE_MM: Mapping[str, float] = {
    "liver": 5.0,
    "kidney": 3.0,  # either
    "spleen": 3.0,
    "pancreas": 5.0,
    "aorta": 2.0,
    "inferior_vena_cava": 2.0,
    "adrenal_gland": 2.0,  # either
    ADRENAL_GLANDS: 2.0,  # both in one column
    "gallbladder": 2.0,
    "esophagus": 3.0,
    "stomach": 5.0,
    "duodenum": 7.0,
    "portal_and_splenic_veins": 2.0,  # not in FLARE; as the vena cava
}


def tolerances_mm(name: str, columns: Iterable[str]) -> dict[str, float]:
    """Return how far a surface may be off and still agree, by column, in millimetres.

    Args:
        name: one of ``TOLERANCES``.
        columns: names of organs, here or in TotalSegmentator.

    Raises:
        ValueError: there are no such tolerances, or FLARE has none for a column.
    """
    if name == "nnunet":
        return dict.fromkeys(columns, NNUNET_MM)
    if name != "flare":
        raise ValueError(f"unknown tolerance {name!r}; choose one of {', '.join(TOLERANCES)}")
    organs = {column: _without_side(column) for column in columns}
    unknown = [column for column, organ in organs.items() if organ not in FLARE_MM]
    if unknown:
        raise ValueError(f"FLARE has no tolerance for {', '.join(unknown)}; use the tolerance nnunet (1 mm for all)")
    return {column: FLARE_MM[organ] for column, organ in organs.items()}


def _without_side(column: str) -> str:
    organ = find_organ(column)
    return organ.name.removeprefix(f"{organ.laterality}_") if organ else column.lower()


@dataclass(frozen=True)
class AbsentOrganRule:
    """Dice of an organ that is not on both sides. NaN means no value: the case does not count for that organ.

    Dice is 0/0 where both are empty, and 0 by the formula where one is. Published tables differ in what they put there,
    which moves a BTCV mean by more than a point.

    Attributes:
        name: short name, as written in ``metrics.json``.
        both_absent: neither truth nor prediction holds the organ.
        truth_absent: only the prediction holds it.
        prediction_absent: only the truth holds it.
    """

    name: str
    both_absent: float
    truth_absent: float
    prediction_absent: float

    def statement(self) -> str:
        """Return the rule as one sentence for readers of a table."""
        values = {
            "both truth and prediction": self.both_absent,
            "truth only": self.truth_absent,
            "prediction only": self.prediction_absent,
        }
        scores = (f"{'no value' if math.isnan(value) else f'{value:g}'} in {where}" for where, value in values.items())
        return f"an organ scores, where absent: {', '.join(scores)}; means are over the cases that have a value"


RULES: dict[str, AbsentOrganRule] = {
    rule.name: rule
    for rule in (
        AbsentOrganRule("nnunet", both_absent=math.nan, truth_absent=0.0, prediction_absent=0.0),
        AbsentOrganRule("unetr", both_absent=0.0, truth_absent=0.0, prediction_absent=0.0),
        AbsentOrganRule("unetr_plus_plus", both_absent=1.0, truth_absent=0.0, prediction_absent=0.0),
        AbsentOrganRule("transunet", both_absent=0.0, truth_absent=1.0, prediction_absent=0.0),
    )
}


@dataclass(frozen=True)
class ProtocolDescription:
    """A protocol as ``metrics.json`` and the pages name it."""

    name: str
    statement: str
    source: str


@dataclass(frozen=True)
class Protocol:
    """How masks are scored.

    Attributes:
        name: as on the command line and in ``metrics.json``.
        columns: BTCV ids of the organs joined in each column, by the column's name, in the order of its tables; None:
            one column for each label of the data set.
        rule: what an organ scores that is absent from truth, prediction or both.
        spacing_mm: spacing (right-left, front-back, head-foot) of the grid that both masks are brought to; None: the
            label's own grid.
        scope: what is scored where, as text.
        source: where the protocol comes from.
    """

    name: str
    columns: Mapping[str, tuple[int, ...]] | None
    rule: AbsentOrganRule
    spacing_mm: tuple[float, float, float] | None
    scope: str
    source: str

    def statement(self) -> str:
        """Return the whole protocol in one sentence, for the readers of a table."""
        return f"{self.scope}; {self.rule.statement()}"

    def with_rule(self, rule: AbsentOrganRule) -> "Protocol":
        """Return the protocol with another rule for absent organs, which its name then tells."""
        return self if rule == self.rule else replace(self, name=f"{self.name}+{rule.name}", rule=rule)

    def columns_of(self, table: LabelTable) -> dict[str, tuple[int, ...]]:
        """Return the labels joined in each column.

        Args:
            table: the labels of the data set; organs are recognised by their names.

        Raises:
            ValueError: the data set lacks an organ that the protocol scores.
        """
        if self.columns is None:
            return {name: (label,) for name, label in table.organs.items()}
        label_of = {organ.id: label for name, label in table.organs.items() if (organ := find_organ(name))}
        missing = [ORGAN_NAMES[id_] for ids in self.columns.values() for id_ in ids if id_ not in label_of]
        if missing:
            raise ValueError(
                f"protocol {self.name!r} scores {', '.join(missing)}, which {table.source} does not name; "
                "score these labels with --protocol nnunet"
            )
        return {column: tuple(label_of[id_] for id_ in ids) for column, ids in self.columns.items()}

    def description(self) -> ProtocolDescription:
        """Return what is written about it in ``metrics.json``."""
        return ProtocolDescription(self.name, self.statement(), self.source)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "nnunet",
            columns=None,
            rule=RULES["nnunet"],
            spacing_mm=None,
            scope="every label of the data set on the original grid",
            source="nnU-Net v2, evaluation/evaluate_predictions.py",
        ),
        Protocol(
            "btcv-challenge",
            columns={ORGAN_NAMES[ids[0]] if len(ids) == 1 else ADRENAL_GLANDS: ids for ids in CHALLENGE_12},
            rule=RULES["nnunet"],
            spacing_mm=None,
            scope="12 columns on the original grid, both adrenal glands joined in one",
            source="tables of the BTCV test server as in the UNETR paper, table 1; the server's code is not published: "
            "that a missing organ has no value is said in Project-MONAI/research-contributions issue 132, that the "
            "glands are joined voxel by voxel is our reading",
        ),
        Protocol(
            "synapse-8",
            columns={ORGAN_NAMES[id_]: (id_,) for id_ in SYNAPSE_8},
            rule=RULES["transunet"],
            spacing_mm=None,
            scope="8 organs on the original grid",
            source="TransUNet, utils.py and test.py (its HD95 is in voxels, and 0 where an organ is absent; ours is in "
            "mm, and has no value there)",
        ),
        Protocol(
            "unetr",
            columns={name: (id_,) for id_, name in ORGAN_NAMES.items()},
            rule=RULES["unetr"],
            spacing_mm=(1.5, 1.5, 2.0),
            scope="13 organs, label and prediction resampled to 1.5 x 1.5 x 2.0 mm by nearest neighbour",
            source="UNETR in Project-MONAI/research-contributions, UNETR/BTCV/test.py and utils (there the network "
            "predicts on that grid, here its masks are resampled to it)",
        ),
    )
}
DEFAULT_PROTOCOL = PROTOCOLS["nnunet"]
