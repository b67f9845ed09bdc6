import os

import pytest

from unetr_nnunet.images.cases import Case
from unetr_nnunet.inference.case_inputs import CaseInputs, fingerprint


@pytest.fixture
def case(tmp_path):
    (tmp_path / "ct.nii.gz").write_bytes(b"voxels")
    return Case("ct", ((tmp_path / "ct.nii.gz",),), False)


@pytest.mark.parametrize("change", ["content", "time", "name", "gone"])
def test_what_has_changed_differs(change, case, tmp_path):
    inputs = CaseInputs(tmp_path / ".inputs.csv")
    assert not inputs.differ(case, None), "nothing is known of it"
    inputs.note(case, None)
    assert not CaseInputs(tmp_path / ".inputs.csv").differ(case, None)
    path = tmp_path / "ct.nii.gz"
    if change == "content":
        path.write_bytes(b"other voxels")
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "name":
        path.rename(tmp_path / "other.nii.gz")
        case = Case("ct", ((tmp_path / "other.nii.gz",),), False)
    else:
        path.unlink()
    assert (fingerprint(case) == "") == (change == "gone")
    assert CaseInputs(tmp_path / ".inputs.csv").differ(case, None)


def test_an_assumption_counts_where_it_was_needed(case, tmp_path):
    CaseInputs(tmp_path / ".inputs_part1of2.csv").note(case, "RAS")
    inputs = CaseInputs(tmp_path / ".inputs_part2of2.csv")
    assert not inputs.differ(case, "RAS")
    assert inputs.differ(case, "LPS")
    assert inputs.differ(case, None)
    inputs.note(case, None)
    CaseInputs(tmp_path / ".inputs_part1of2.csv").forget("ct")
    assert not CaseInputs(tmp_path / ".inputs_part2of2.csv").differ(case, "LPS")
