from dataclasses import replace
from pathlib import Path

import pytest

from tests.experiments.test_crossval import settings
from unetr_nnunet.experiments.settings import read_settings, write_settings


def test_trainings_side_by_side() -> None:
    assert settings().trainings_at_once == 4
    assert settings(cores=8).trainings_at_once == 1
    assert settings(device="cuda", gpus=5, per=2).trainings_at_once == 2
    assert settings(device="cuda", gpus=1, per=1).trainings_at_once == 1
    assert settings("slurm", "cuda").trainings_at_once == 20


def test_settings_survive_their_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no study: name its folder with -o"):
        read_settings(tmp_path)
    mine = replace(settings(), partition="short", folders={"nnUNet_raw": "/data"}, longest_minutes=60)
    write_settings(mine, tmp_path)
    assert read_settings(tmp_path) == mine
    (tmp_path / "settings.json").write_text('{"executor": "local"')
    with pytest.raises(ValueError, match=r"settings\.json is damaged: .*; remove it and start the study again"):
        read_settings(tmp_path)
