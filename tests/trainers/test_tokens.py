import sys
from pathlib import Path

import pytest

from tests.conftest import install_package
from unetr_nnunet.architectures import registry
from unetr_nnunet.architectures.presets import ARCHITECTURES, SIZES
from unetr_nnunet.trainers.tokens import NumberToken, modifications, token_groups


def explanations(field: str, architecture: str = "original") -> dict[str, str]:
    groups = [group for group in token_groups(architecture) if group.field == field]
    return dict(groups[0].explanations) if groups and not isinstance(groups[0], NumberToken) else {}


def test_our_tokens_are_the_presets() -> None:
    assert set(explanations("architecture")) == {"", *modifications()}
    assert set(modifications()) == set(ARCHITECTURES) - {"original"}
    assert explanations("architecture")["FPN"] == ARCHITECTURES["FPN"].summary
    assert set(explanations("size")) == {"", *SIZES} - {"base"}
    assert "width 192, layers 4" in explanations("size")["Tiny"]
    assert "learning rate 0.008" in explanations("size")["Tiny"]


def test_another_architecture_has_its_own_sizes_and_the_same_tokens_for_training(otherlab: None) -> None:
    assert explanations("size", "Pyramid") == {"": "base: width 12", "Slim": "width 4"}
    assert explanations("size", "Line") == {"": "base: as it is"}
    assert not explanations("architecture", "Pyramid")
    assert not explanations("blocks", "Pyramid")
    assert token_groups("Pyramid")[1:] == token_groups()[3:]


@pytest.mark.parametrize("name", ["Paper", "NoLRFlip", "seed3", "NoTransformer"])
def test_a_name_that_is_another_token_is_refused(
    forget_architectures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "site"
    install_package(folder, monkeypatch, "wordlab", "0.1", {name: "wordlab:NET"})
    (folder / "wordlab.py").write_text(
        "from unetr_nnunet.architectures.architecture import Architecture\n"
        f"NET = Architecture({name!r}, print, len, {{'base': {{}}}}, 'me')\n"
    )
    monkeypatch.delitem(sys.modules, "wordlab", raising=False)
    registry.registrations.cache_clear()
    with pytest.raises(ValueError, match=rf"{name} \(wordlab 0\.1\): '{name}' already means something in a trainer's"):
        token_groups(name)
