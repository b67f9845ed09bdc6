"""Four ways to score the same masks that have all been published as "BTCV Dice".

A protocol says which organs are scored and which are joined, on which grid, and what an organ scores that is absent.
The same predictions score points apart under them, so every table names its protocol, and none mixes two.
Sources, each read in the code or thread named: nnU-Net v2 ``nnunetv2/evaluation/evaluate_predictions.py``; UNETR in
MONAI research-contributions ``UNETR/BTCV`` (``test.py``, ``utils/utils.py``, ``utils/data_utils.py``); TransUNet
``utils.py`` and ``test.py``; for the test server, whose code is not published, table 1 of the UNETR paper (12 columns,
one for both adrenal glands) and research-contributions issue 132 ("Remove DSC scores of missing organs").
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from unetr_nnunet.evaluation.absent_organs import RULES, AbsentOrganRule
from unetr_nnunet.nnunet.label_table import LabelTable
from unetr_nnunet.organs import CHALLENGE_12, ORGAN_NAMES, SYNAPSE_8, find_organ

ADRENAL_GLANDS = "adrenal_glands"


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
        scope: what is scored where, in words.
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

    def description(self) -> dict[str, Any]:
        """Return ``name``, ``statement`` and ``source``, as they are written in ``metrics.json``."""
        return {"name": self.name, "statement": self.statement(), "source": self.source}


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
