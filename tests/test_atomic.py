import os
from pathlib import Path

import pytest

from unetr_nnunet.atomic import atomic_path


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "label.nii.gz"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.name.endswith("label.nii.gz")
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["label.nii.gz"]  # noqa: PTH208


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("ha")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.touch()
    with atomic_path(ours) as temporary:
        temporary.touch()
    assert ours.stat().st_mode == plain.stat().st_mode
