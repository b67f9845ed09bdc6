"""The committed NiiVue is the one that its note and the script that fetches it speak of, with its licence."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

STATIC = files("unetr_nnunet.viewer") / "static"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fetch_niivue.py"


def test_niivue_is_what_its_note_says_and_has_its_licence() -> None:
    note = (STATIC / "NIIVUE.md").read_text(encoding="utf-8")
    assert f"sha256 {hashlib.sha256((STATIC / 'niivue.umd.js').read_bytes()).hexdigest()}" in note
    fetched = dict(re.findall(r'^(VERSION|SHA512) = "(.+)"$', SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))
    assert f"@niivue/niivue {fetched['VERSION']} " in note
    assert fetched["SHA512"] in note
    assert "no licence file in the package" not in note
    assert "BSD 2-Clause License" in (STATIC / "NIIVUE_LICENSE.txt").read_text(encoding="utf-8")
