"""The tutorial, block by block, in a shell and a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "study.md"


@pytest.mark.long
def test_blocks_run_as_they_stand(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    script = "set -euo pipefail\n" + "\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = (tmp_path / "study" / "tables.md").read_text(encoding="utf-8")
    for name in ("UNETR", "modified UNETR"):
        loss, accuracy, dice = re.search(rf"\| {name} \| (\S+) \| (\S+) \| (\S+) \|", table).groups()  # type: ignore[union-attr]
        assert float(loss) < 0.5, "the loss starts above 1"
        assert 0.1 < float(accuracy) <= 1
        assert 0.05 < float(dice) < 1
    assert {path.name for path in (tmp_path / "masks").glob("*.nii.gz")} == {"BTCV_0061.nii.gz", "BTCV_0062.nii.gz"}
    assert "<html" in (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
