import sys
from pathlib import Path

import pytest

from tests.conftest import install_package
from unetr_nnunet.architectures import registry
from unetr_nnunet.architectures.presets import ARCHITECTURES, SIZES
from unetr_nnunet.trainers.tokens import NumberToken, RateToken, modifications, token_groups


def explanations(field: str, architecture: str = "original") -> dict[str, str]:
    groups = [group for group in token_groups(architecture) if group.field == field]
    return dict(groups[0].explanations) if groups and not isinstance(groups[0], NumberToken) else {}


def test_our_tokens_are_the_presets() -> None:
    assert set(explanations("architecture")) == {"", *modifications()}
    assert set(modifications()) == set(ARCHITECTURES) - {"original"}
    assert explanations("architecture")["FPN"] == ARCHITECTURES["FPN"].summary
    assert set(explanations("size")) == {"", *SIZES} - {"base"}
    assert "width 192, layers 4" in explanations("size")["Tiny"]
    assert "learning rate 0.008, transformer and tokenizer 0.0003, where" in explanations("size")["Tiny"]


@pytest.mark.parametrize(
    ("token", "rate"), [("lr8e-3", 8e-3), ("lr15e-4", 1.5e-3), ("lr3e-4", 3e-4), ("lr1e-9", 1e-9), ("lr99e-9", 99e-9)]
)
def test_a_rate_and_its_token(token: str, rate: float) -> None:
    group = next(group for group in token_groups() if group.field == "learning_rate")
    assert isinstance(group, RateToken)
    assert group.number_in(token) == rate
    assert group.written(rate) == token


@pytest.mark.parametrize("token", ["lr8e-03", "lr80e-4", "lr0.008", "lr8e3", "lr0e-3", "lr123e-3", "lr", "vitlr1e-3"])
def test_each_rate_has_one_token(token: str) -> None:
    group = next(group for group in token_groups() if group.field == "learning_rate")
    assert isinstance(group, RateToken)
    assert group.number_in(token) is None


def test_another_architecture_has_its_own_sizes_and_the_same_tokens_for_training(otherlab: None) -> None:
    assert explanations("size", "Pyramid") == {"": "base: width 12", "Slim": "width 4"}
    assert explanations("size", "Line") == {"": "base: as it is"}
    assert not explanations("architecture", "Pyramid")
    assert not explanations("blocks", "Pyramid")
    ours = [group for group in token_groups()[3:] if group.field != "transformer_learning_rate"]
    assert list(token_groups("Pyramid")[1:]) == ours, "it has no transformer"


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
