from dataclasses import replace

import pytest
import torch

from unetr_nnunet.trainers.recipes import RECIPES, WarmupDecay, recipe_for
from unetr_nnunet.trainers.tokens import token_groups


def schedule(recipe: str, epochs: int) -> WarmupDecay:
    return WarmupDecay(torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]), RECIPES[recipe], epochs)


def test_every_recipe_token_has_a_recipe() -> None:
    group = next(group for group in token_groups() if group.field == "recipe")
    assert {token or group.default for token in group.explanations} == set(RECIPES)


def test_paper_schedule_at_known_points() -> None:
    rates = schedule("Paper", 300)
    assert rates.learning_rate(25) == pytest.approx(0.5e-4)  # half way through 50 epochs of warm-up
    assert rates.learning_rate(50) == pytest.approx(1e-4)
    assert rates.learning_rate(175) == pytest.approx(0.5e-4)  # half way down the cosine
    assert rates.learning_rate(300) == pytest.approx(0, abs=1e-12)


def test_recommended_schedule_decays_as_nnunets_polynomial() -> None:
    from nnunetv2.training.lr_scheduler.warmup import PolyLRScheduler_offset

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    theirs = PolyLRScheduler_offset(optimizer, 3e-4, 1000, 50)
    ours = schedule("recommended", 1000)
    for epoch in (50, 200, 999):
        theirs.step(epoch)
        assert ours.learning_rate(epoch) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_warm_up_rises_from_a_small_but_positive_rate() -> None:
    rates = schedule("recommended", 2)
    points = [rates.learning_rate(epoch / 100) for epoch in range(11)]
    assert 0 < points[0] < points[-1]
    assert points == sorted(points)


def test_step_sets_every_group() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.AdamW(groups)
    rates = WarmupDecay(optimizer, RECIPES["Paper"], 300)
    rates.step(50)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-4, 1e-4])


def test_a_group_can_have_a_multiple_of_the_rate() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "rate": rate} for rate in (1.0, 0.125)]
    optimizer = torch.optim.AdamW(groups)
    WarmupDecay(optimizer, RECIPES["Paper"], 300).step(175)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-5, 5e-5 / 8])


def test_rates_of_the_name_replace_the_recipes() -> None:
    recipe = replace(RECIPES["recommended"], learning_rate=8e-3, transformer_rate=0.125)
    assert recipe.with_rates(None, None) == recipe
    assert recipe.with_rates(4e-3, None) == replace(recipe, learning_rate=4e-3)
    assert recipe.with_rates(None, 4e-3).transformer_rate == pytest.approx(0.5)
    assert recipe.with_rates(2e-3, 1e-3).transformer_rate == pytest.approx(0.5)


def test_only_the_recommended_rate_follows_the_network() -> None:
    assert recipe_for("recommended", 8e-3, 0.25).transformer_rate == 0.25
    assert recipe_for("Paper", 8e-3, 0.25) == RECIPES["Paper"]
    assert recipe_for("recommended") == RECIPES["recommended"]
    assert recipe_for("recommended", 8e-3) == replace(RECIPES["recommended"], learning_rate=8e-3)
    assert recipe_for("Paper", 8e-3) == RECIPES["Paper"]
