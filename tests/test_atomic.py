import os
from pathlib import Path

import pytest

from unetr_nnunet.atomic import atomic_path, remove_leftovers, write_json


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


@pytest.mark.parametrize("name", ["a" * 248 + ".nii.gz", "\u5b57" * 82 + ".nii.gz"])
def test_the_longest_name(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.name.endswith(".nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.touch()
    with atomic_path(ours) as temporary:
        temporary.touch()
    assert ours.stat().st_mode == plain.stat().st_mode


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path: Path) -> None:
    done = tmp_path / "checkpoint.pth"
    done.write_text("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_arguments, **_options: None)  # as if killed before the clean-up
        with pytest.raises(KeyboardInterrupt), atomic_path(done):
            raise KeyboardInterrupt
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [done]
    assert done.read_text() == "whole"


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json({"a": [1]}, tmp_path / "new" / "x.json", indent=2)
    assert (tmp_path / "new" / "x.json").read_text() == '{\n  "a": [\n    1\n  ]\n}'
    with pytest.raises(TypeError):
        write_json({"a": {1}}, tmp_path / "new" / "x.json")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.json"]
    assert (tmp_path / "new" / "x.json").stat().st_size > 0
