"""What an organ scores where truth, prediction or both do not hold it.

Dice is 0/0 where both are empty, and 0 by the formula where one is. Published tables differ in what they put there,
which moves a BTCV mean by more than a point, so the rule is data, is named, and is written beside every figure.
Sources, each the code behind published tables: nnU-Net v2 ``evaluation/evaluate_predictions.py``; UNETR in MONAI
research-contributions ``UNETR/BTCV/utils/utils.py``; UNETR++ ``unetr_pp/inference_synapse.py``; TransUNet ``utils.py``
(which counts a false positive as 1 where truth is empty; kept, because its tables were made so).
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
            ("both truth and prediction", self.both_absent),
            ("truth only", self.truth_absent),
            ("prediction only", self.prediction_absent),
        )
        words = ", ".join(f"{'no value' if math.isnan(value) else f'{value:g}'} in {where}" for where, value in parts)
        return f"an organ scores, where absent: {words}; means are over the cases that have a value"


RULES: dict[str, AbsentOrganRule] = {
    rule.name: rule
    for rule in (
        AbsentOrganRule("nnunet", both_absent=math.nan, truth_absent=0.0, prediction_absent=0.0),
        AbsentOrganRule("unetr", both_absent=0.0, truth_absent=0.0, prediction_absent=0.0),
        AbsentOrganRule("unetr_plus_plus", both_absent=1.0, truth_absent=0.0, prediction_absent=0.0),
        AbsentOrganRule("transunet", both_absent=0.0, truth_absent=1.0, prediction_absent=0.0),
    )
}
DEFAULT_RULE = RULES["nnunet"]
