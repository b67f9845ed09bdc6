import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("seed", "files"), [(0, 40), *(pytest.param(seed, 400, marks=pytest.mark.slow) for seed in range(1, 4))]
)
def test_broken_files_end_nothing_and_read_nothing_elsewhere(seed: int, files: int, tmp_path: Path) -> None:
    folder = tmp_path / "fuzzed"
    command = [sys.executable, "-m", "tests.images.fuzzed_files", str(seed), str(files), str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    last = " ".join(path.read_text() for path in folder.glob("*/at"))
    assert done.returncode == 0, f"at {last}: {done.stderr[-2000:]}"
    assert done.stdout.strip() == ""
