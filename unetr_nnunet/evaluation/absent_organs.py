"""What an organ scores where truth, prediction or both do not hold it.

Dice is 0/0 where both are empty, and 0 by the formula where one is. Published tables differ in what they put there,
which moves a BTCV mean by more than a point, so the rule is data, is named, and is written beside every figure.
Sources: nnU-Net v2 ``evaluation/evaluate_predictions.py``.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class AbsentOrganRule:
    """Dice of an organ that is not on both sides. NaN means no value: the case does not count for that organ.

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
        parts = (
            ("in both truth and prediction", self.both_absent),
            ("in truth only", self.truth_absent),
            ("in prediction only", self.prediction_absent),
        )
        words = ", ".join(f"{where}: {'no value (NaN)' if math.isnan(value) else value}" for where, value in parts)
        return f"Dice of an organ absent {words}; means are over the cases that have a value."


NNUNET = AbsentOrganRule("nnunet", both_absent=math.nan, truth_absent=0.0, prediction_absent=0.0)
"""nnU-Net's own rule, that of ``summary.json``."""
