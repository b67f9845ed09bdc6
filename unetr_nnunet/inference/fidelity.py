"""How closely a prediction follows nnU-Net's own."""

from enum import StrEnum


class Fidelity(StrEnum):
    """What may differ from ``nnUNetv2_predict``.

    Attributes:
        EXACT: nothing but the order of floating-point operations: every window by itself, full precision, air included.
        DEFAULT: the arithmetic. On a CPU with bfloat16 the network runs in that, and in OpenVINO where that is
            installed; PyTorch computes all convolutions in oneDNN; windows run in batches; what is only air is left
            out.
        FAST: also what is looked at: half of the mirrored views, and a first pass of windows that hardly overlap
            decides where each fold looks again. It may miss what is small or seen from one window only.
    """

    EXACT = "exact"
    DEFAULT = "default"
    FAST = "fast"
