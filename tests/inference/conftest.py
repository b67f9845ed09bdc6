"""The two real CTs, where they are at hand."""

from pathlib import Path

import pytest

REAL_CT = Path(__file__).resolve().parents[3] / "shared" / "data" / "real_ct"


@pytest.fixture
def real_ct() -> Path:
    """The folder of the two real CTs; a test that asks for it is skipped where they are absent."""
    if not REAL_CT.is_dir():
        pytest.skip("the two real CTs are not on this machine")
    return REAL_CT
