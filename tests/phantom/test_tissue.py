import numpy as np
import pytest

from unetr_nnunet.phantom.tissue import PHASE_SHARES, PHASES, draw_tissues


@pytest.fixture(scope="module")
def patients():
    return [draw_tissues(np.random.default_rng(seed)) for seed in range(1000)]


def test_phases_have_their_shares(patients):
    for phase, share in zip(PHASES, PHASE_SHARES, strict=True):
        assert np.mean([patient.phase == phase for patient in patients]) == pytest.approx(share, abs=0.06)


def test_contrast_is_where_the_phase_has_it(patients):
    by_phase = {
        phase: {
            name: np.mean([patient.hu[name] for patient in patients if patient.phase == phase])
            for name in patients[0].hu
        }
        for phase in PHASES
    }
    assert by_phase["arterial"]["aorta"] > by_phase["portal"]["aorta"] > by_phase["unenhanced"]["aorta"]
    assert by_phase["portal"]["portal_vein"] > by_phase["arterial"]["portal_vein"]
    arterial = by_phase["arterial"]
    assert arterial["renal_cortex"] > arterial["renal_medulla"] + 60
    assert all(0 < by_phase[phase]["liver"] < 150 for phase in PHASES)
