import pytest

from unetr_nnunet.inference.fidelity import Fidelity


def test_by_the_options_names():
    assert [Fidelity(name) for name in ("default", "exact", "fast")] == [
        Fidelity.DEFAULT,
        Fidelity.EXACT,
        Fidelity.FAST,
    ]
    with pytest.raises(ValueError, match="sloppy"):
        Fidelity("sloppy")
