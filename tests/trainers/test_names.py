import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetr_nnunet.trainers.names import (
    BASE_NAME,
    TrainerName,
    describe_tokens,
    explain,
    is_parsed,
    parse_trainer_name,
)
from unetr_nnunet.trainers.recipes import recipe_for
from unetr_nnunet.trainers.tokens import token_groups

names = st.builds(
    TrainerName,
    architecture=st.sampled_from(["original", "CNNStem", "ModernViT", "AlignedSkips", "FPN", "Modified"]),
    blocks=st.sampled_from(["transformer", "NoTransformer"]),
    augmentation=st.sampled_from(
        ["nnU-Net's own", "Baseline", "LightAug", "StrongAug", "NoIntensity", "FlipOnly", "NoAug"]
    ),
    size=st.sampled_from(["base", "Tiny", "Large"]),
    recipe=st.sampled_from(["recommended", "Paper"]),
    mirroring=st.sampled_from(["all axes", "NoLRFlip"]),
    epochs=st.none() | st.integers(1, 10**6),
    seed=st.none() | st.integers(0, 10**9 - 1),
)


@given(names)
def test_every_combination_has_a_name_of_its_own(settings: TrainerName) -> None:
    name = str(settings)
    assert parse_trainer_name(name) == settings
    assert "__" not in name
    assert name.isidentifier()


def test_a_written_out_example() -> None:
    expected = TrainerName(size="Tiny", recipe="Paper", epochs=2, seed=0)
    assert parse_trainer_name("nnUNetTrainerUNETR_Tiny_Paper_2epochs_seed0") == expected
    assert parse_trainer_name(BASE_NAME) == TrainerName()
    expected = TrainerName("Modified", "NoTransformer", augmentation="StrongAug", mirroring="NoLRFlip", seed=7)
    assert parse_trainer_name("nnUNetTrainerUNETR_Modified_NoTransformer_StrongAug_NoLRFlip_seed7") == expected


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nnUNetTrainerUNETR_Small", "unknown token 'Small'"),
        ("nnUNetTrainerUNETR_", "an underscore too many"),
        ("nnUNetTrainerUNETR__Tiny", "an underscore too many"),
        ("nnUNetTrainerUNETR_tiny", "unknown token 'tiny'"),
        ("nnUNetTrainerUNETR_0epochs", "unknown token '0epochs'"),
        ("nnUNetTrainerUNETR_02epochs", "unknown token '02epochs'"),
        ("nnUNetTrainerUNETR_seed-1", "unknown token 'seed-1'"),
        ("nnUNetTrainerUNETR_seed1000000000", "unknown token 'seed1000000000'"),
        ("nnUNetTrainerUNETR_seed1\u0663", "unknown token"),
        ("nnUNetTrainerUNETR_Tiny_Large", "second size token 'Large'"),
        ("nnUNetTrainerUNETR_seed1_seed2", "second seed token 'seed2'"),
        ("nnUNetTrainerUNETR_FPN_CNNStem", "second architecture token 'CNNStem'"),
        ("nnUNetTrainerUNETR_NoTransformer_Modified", "write nnUNetTrainerUNETR_Modified_NoTransformer"),
        ("nnUNetTrainerUNETR_2epochs_Tiny", "write nnUNetTrainerUNETR_Tiny_2epochs"),
        ("nnUNetTrainer", "their names start with nnUNetTrainerUNETR"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(name: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as error:
        parse_trainer_name(name)
    if "token" in complaint:
        assert describe_tokens() in str(error.value)


def test_valid_tokens_are_all_listed() -> None:
    listed = describe_tokens()
    for token in (
        "Modified",
        "NoTransformer",
        "FlipOnly",
        "Tiny",
        "Large",
        "Paper",
        "NoLRFlip",
        "<N>epochs",
        "seed<N>",
    ):
        assert token in listed


def test_explain_says_each_setting() -> None:
    rows = {field: (value, meaning) for field, value, meaning in explain(TrainerName(recipe="Paper", seed=3))}
    assert rows["recipe"][0] == "Paper"
    assert "cosine" in rows["recipe"][1]
    assert rows["seed"][0] == "3"
    assert rows["epochs"] == ("none", "not set")


def test_the_explained_recipes_are_those_trained_with() -> None:
    (recipes,) = [group.explanations for group in token_groups() if group.field == "recipe"]
    for recipe, token in (("recommended", ""), ("Paper", "Paper")):
        base = recipe_for(recipe)
        assert f"{base.epochs} epochs" in recipes[token]
        figures = [float(figure) for figure in re.findall(r"\de-\d", recipes[token])]
        assert figures == [base.learning_rate, base.weight_decay]


def test_names_are_known_without_torch() -> None:
    code = "import sys, unetr_nnunet.trainers.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_architectures_name_has_the_same_tokens(otherlab: None) -> None:
    expected = TrainerName("Pyramid", size="Slim", recipe="Paper", augmentation="Baseline", epochs=5, seed=1)
    assert parse_trainer_name("nnUNetTrainerNet_Pyramid_Slim_Paper_Baseline_5epochs_seed1") == expected
    assert str(expected) == "nnUNetTrainerNet_Pyramid_Slim_Paper_Baseline_5epochs_seed1"
    assert parse_trainer_name("nnUNetTrainerNet_Pyramid") == TrainerName("Pyramid", size="base")
    assert explain(expected)[0] == ("architecture", "Pyramid", "two scales; otherlab 1.2")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nnUNetTrainerNet", "the name of an architecture is missing.*installed are Line, .*Opaque, .*Pyramid"),
        ("nnUNetTrainerNet_Modified_Tiny", "Modified is a variant of UNETR: write nnUNetTrainerUNETR_Modified$"),
        ("nnUNetTrainerNet_original", "a variant of UNETR: write nnUNetTrainerUNETR$"),
        ("nnUNetTrainerNet_pyramid", "write nnUNetTrainerNet_Pyramid"),
        ("nnUNetTrainerNet_Swin", "no architecture 'Swin': .*Install the package"),
        ("nnUNetTrainerNet_Pyramid_Tiny", "unknown token 'Tiny'.*size: Slim"),
        ("nnUNetTrainerNet_Pyramid_base", "unknown token 'base'"),
        ("nnUNetTrainerNet_Pyramid_NoTransformer", "unknown token 'NoTransformer'"),
        ("nnUNetTrainerNet_Pyramid_seed1_Slim", "write nnUNetTrainerNet_Pyramid_Slim_seed1"),
    ],
)
def test_another_architectures_wrong_name_says_what_is_wrong(otherlab: None, name: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_trainer_name(name)
    assert "\n" not in str(caught.value)


def test_written_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="size 'Huge': choose one of base, Tiny, Large"):
        TrainerName(size="Huge")
    with pytest.raises(ValueError, match="recipe 'paper': choose one of recommended, Paper"):
        TrainerName(recipe="paper")
    with pytest.raises(ValueError, match="epochs 0: give a whole number, at least 1"):
        TrainerName(epochs=0)
    with pytest.raises(ValueError, match="PlainConvUNet has no control without its transformer"):
        TrainerName("PlainConvUNet", blocks="NoTransformer")
    assert str(TrainerName("modified")) == "nnUNetTrainerUNETR_Modified"


def test_only_names_of_the_grammar_are_parsed() -> None:
    names = ["nnUNetTrainerUNETR", "nnUNetTrainerUNETR_Smal", "nnUNetTrainerNet_X", "nnUNetTrainerUNETRMine", "nnUNet"]
    assert [is_parsed(name) for name in names] == [True, True, True, False, False]
