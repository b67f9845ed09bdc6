import subprocess
import sys

import pytest

from unetr_nnunet.nnunet_hook.commands import without_script


@pytest.mark.parametrize(("name", "said"), [("unetr_nnunet", "UNETR inside nnU-Net"), ("nnUNetv2_train", "usage")])
def test_a_command_without_its_script(name: str, said: str) -> None:
    words = without_script(name, "--help")
    assert words[0] == sys.executable
    assert said in subprocess.run(words, capture_output=True, text=True, check=True).stdout
