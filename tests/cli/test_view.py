import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.cli.main import main


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for folder, name, label in (("ct", "BTCV_0061_0000", 40), ("masks", "BTCV_0061", 6), ("labels", "label0061", 6)):
        (tmp_path / folder).mkdir()
        image = sitk.GetImageFromArray(np.full((2, 3, 4), label, np.int16))
        sitk.WriteImage(image, str(tmp_path / folder / f"{name}.nii.gz"))
    shutil.copy(tmp_path / "masks" / "BTCV_0061.nii.gz", tmp_path / "masks" / "BTCV_0062.nii.gz")
    return tmp_path


def test_serves_until_ctrl_c(study: Path) -> None:
    command = ["env", "--default-signal=INT"]  # which a shell makes its background jobs ignore
    command += [sys.executable, "-m", "unetr_nnunet.cli.main", "view", str(study / "ct")]
    command += ["--masks", str(study / "masks"), "--labels", str(study / "labels")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = []
        try:
            for line in process.stdout:
                said.append(line)
                if re.match(r"http://127\.0\.0\.1:\d+/[\w-]{43}/\n", line):
                    break
            for path in ("", "case/0/ct.nii", "case/0/mask/0.nii", "case/0/mask/1.nii"):
                with urllib.request.urlopen(said[-1].strip() + path, timeout=60) as response:
                    assert response.status == 200
        finally:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
    text = "".join(said)
    assert "truth: 1 of 1 CTs have a label map" in text
    assert "without a CT: BTCV_0062" in text


def test_wrong_input_is_one_readable_line(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ct = str(study / "ct")
    for words, expected in (
        ([str(study / "none")], "does not exist"),
        ([ct, "--masks", str(study / "none")], "is not a folder"),
        ([ct, "--masks", str(study)], "holds no label map"),
        ([ct, "--port", "70000"], "port 70000 cannot be used"),
    ):
        assert main(["view", *words]) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
