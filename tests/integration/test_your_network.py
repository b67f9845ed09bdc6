"""docs/how-to/your_network.md, from its files to the report, with the package installed in a fresh environment."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import DATASET, set_nnunet_folders, shorten_epochs, write_blob_dataset

PACKAGE = Path(__file__).parents[1] / "your_network"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "your_network.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def files_of_the_page() -> dict[str, str]:
    """Return each file that the page shows, by the path that the paragraph before it names."""
    page = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"\n\n(.*?)\n\n```(?:python|toml)\n(.*?)```", page, re.DOTALL)
    return {re.findall(r"`([\w/]+\.(?:py|toml))`", words.split("\n\n")[-1])[0]: text for words, text in shown}


def test_the_page_shows_the_packages_files() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 80
    names = {
        "mynet/mynet/network.py": "mynet/network.py",
        "mynet/mynet/architecture.py": "mynet/architecture.py",
        "mynet/pyproject.toml": "pyproject.toml",
        "study.toml": "study.toml",
    }
    assert files_of_the_page() == {name: (PACKAGE / file).read_text(encoding="utf-8") for name, file in names.items()}


def make_environment(folder: Path) -> Path:
    """Make an environment that sees the packages of this one, with commands of its own; return their folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (packages / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    for command in Path(sys.executable).parent.iterdir():
        first, _, rest = command.read_bytes().partition(b"\n")
        copy = folder / "bin" / command.name
        if first.startswith(b"#!") and b"python" in first and not copy.exists():
            copy.write_bytes(f"#!{folder}/bin/python\n".encode() + rest)
            copy.chmod(0o755)
    return folder / "bin"


@pytest.mark.slow
def test_from_installation_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = make_environment(tmp_path / "environment")
    for name, text in files_of_the_page().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    set_nnunet_folders(monkeypatch, tmp_path)
    write_blob_dataset(tmp_path / "nnUNet_raw").rename(tmp_path / "nnUNet_raw" / DATASET.replace("917", "017"))
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "false")  # pip's way to say no isolation: the build needs no download
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    monkeypatch.setenv("PIP_NO_DEPS", "true")
    monkeypatch.setenv("PATH", os.pathsep.join([str(commands), os.environ["PATH"]]))
    shorten_epochs(monkeypatch, 5)
    (script,) = blocks("sh")
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Successfully installed mynet-0.1" in done.stdout
    assert "ok      MyNet-Small-3D" in done.stdout
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    for network in ("MyNet (mynet 0.1)", "PlainConvUNet (unetr_nnunet 0.1.0)"):
        assert network in page
