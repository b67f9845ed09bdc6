import os
import subprocess
import sys
from pathlib import Path

import pytest

from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, trainer_folder


def lines_in_a_shell(root: Path, **variables: str) -> dict[str, str]:
    """Evaluate what the command prints in a real shell; return the variables as a child process sees them."""
    command = Path(sys.executable).parent / "unetr_nnunet"
    show = "; ".join(f'echo "{name}=${name}"' for name in (EXTERNAL_TRAINERS, *FOLDERS))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet")}
    shown = subprocess.run(
        ["bash", "-c", f'eval "$({command} env --root "$ROOT")" && {show}'],
        env={**environment, "ROOT": str(root), **variables},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(line.split("=", 1) for line in shown.splitlines())


def test_a_shell_gets_all_variables(tmp_path: Path) -> None:
    root = tmp_path / "a folder's name"
    seen = lines_in_a_shell(root)
    assert seen == {EXTERNAL_TRAINERS: str(trainer_folder()), **{name: str(root / name) for name in FOLDERS}}


def test_what_is_set_is_kept(tmp_path: Path) -> None:
    seen = lines_in_a_shell(tmp_path, nnUNet_raw="/elsewhere", nnUNet_extTrainer="/others")
    assert seen["nnUNet_raw"] == "/elsewhere"
    assert seen[EXTERNAL_TRAINERS] == os.pathsep.join([str(trainer_folder()), "/others"])


def test_evaluating_twice_changes_nothing(tmp_path: Path) -> None:
    once = lines_in_a_shell(tmp_path)
    assert lines_in_a_shell(tmp_path, **once) == once


@pytest.mark.skipif(not Path("/proc").exists(), reason="Linux only")
def test_the_folder_holds_one_module_that_nnunet_can_import() -> None:
    assert [path.name for path in trainer_folder().glob("*.py") if path.name != "__init__.py"] == [
        "unetr_nnunet_trainers.py"
    ]
