"""Links between the pages of the documentation lead somewhere, and the operations in them are the networks'."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unetr_nnunet.architectures.networks import network

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for folder in (ROOT, ROOT / "docs", ROOT / "benchmarks")
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)


def without_code(text: str) -> str:
    text = re.sub(r"^( {4}|```).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code((ROOT / page).read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), f"{page}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page}: {target}"


def giga_operations(architecture: str, size: str, patch: tuple[int, ...], spacing_mm: tuple[float, ...]) -> float:
    planned = network(architecture, patch, spacing_mm, size=size)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as operations:
        planned.build(1, 14)(torch.empty(1, 1, *patch))
    return operations.get_total_flops() / 1e9


def numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(" x ")))


def test_operations_of_the_baselines_page() -> None:
    text = (ROOT / "docs/reference/baselines.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`: ([\d x]+), ([\d.x ]+) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == 10
    for size, patch, spacing, cells in rows:
        for name, cell in zip(("original", "Modified", "ModifiedV1", "PlainConvUNet"), cells.split(" | "), strict=True):
            there = giga_operations(name, size, tuple(map(int, numbers(patch))), numbers(spacing))
            assert float(cell) == pytest.approx(there, abs=max(0.06, there / 100)), (name, size, patch)


def test_operations_of_the_explanation() -> None:
    text = (ROOT / "docs/explanation/architectures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d x]+), ([\d.x ]+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for patch, spacing, *cells in rows:
        for name, cell in zip(("original", "ModifiedV1", "Modified"), cells, strict=True):
            there = giga_operations(name, "base", tuple(map(int, numbers(patch))), numbers(spacing))
            assert float(cell) == pytest.approx(there, abs=0.51), (name, patch)
