import os
from pathlib import Path

import pytest

from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, nnunet_variables, trainer_folder


def test_unset_variables_get_folders_below_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*FOLDERS, EXTERNAL_TRAINERS):
        monkeypatch.delenv(name, raising=False)
    expected = {EXTERNAL_TRAINERS: str(trainer_folder()), **{name: str(tmp_path / name) for name in FOLDERS}}
    assert nnunet_variables(tmp_path) == expected


def test_a_relative_root_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert nnunet_variables(Path("data"))["nnUNet_raw"] == str(tmp_path / "data" / "nnUNet_raw")


def test_other_external_trainers_stay_behind_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(EXTERNAL_TRAINERS, os.pathsep.join(["/a", str(trainer_folder()), "/b"]))
    expected = os.pathsep.join([str(trainer_folder()), "/a", "/b"])
    assert nnunet_variables(tmp_path)[EXTERNAL_TRAINERS] == expected
