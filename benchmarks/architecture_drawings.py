"""Draw the original and the modified UNETR as SVG for the docs; channels and parameters are read from the networks.

python benchmarks/architecture_drawings.py docs/images
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import nn

from unetr_nnunet.architectures.build import build_unetr

COLOURS = {"stem": "#cfe8d5", "transformer": "#d6dcf5", "skips": "#fbe3c0", "decoder": "#f3d0d7", "plain": "#eeeeee"}
ROWS = (8.0, 6.4, 4.8, 3.2, 1.2)  # full resolution at the top, tokens at the bottom
STEM, DECODER, OUTPUT, GROUPS = 1.7, 11.6, 14.2, (4.0, 5.7, 7.4, 9.1)
Place = tuple[float, float]


def box(axes: Axes, centre: Place, text: str, part: str, width: float = 1.9, height: float = 0.9) -> None:
    """Draw a box with text in a part's colour."""
    x, y = centre[0] - width / 2, centre[1] - height / 2
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.12", fc=COLOURS[part], ec="#555555", lw=0.8
        )
    )
    axes.text(*centre, text, ha="center", va="center", fontsize=8)


def arrow(axes: Axes, start: Place, end: Place) -> None:
    """Draw an arrow."""
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 0.9})


def millions(module: nn.Module) -> str:
    """Return the number of a module's parameters."""
    return f"{sum(value.numel() for value in module.parameters()) / 1e6:.1f} M"


def frame(network: nn.Module, title: str, parts: dict[str, str]) -> tuple[plt.Figure, Axes]:
    """Return an empty drawing with row labels, a title and a legend."""
    figure, axes = plt.subplots(figsize=(10, 6.4))
    axes.set_xlim(-0.9, 15.4)
    axes.set_ylim(-0.6, 9.9)
    axes.axis("off")
    axes.text(-0.8, 9.55, f"{title}: {millions(network)} parameters at 96 x 96 x 96", fontsize=12, weight="bold")
    for row, label in zip(ROWS, ("full size", "1/2", "1/4", "1/8", "1/16: tokens"), strict=True):
        axes.text(-0.8, row + 0.62, label, fontsize=8, color="#777777")
        axes.axhline(row + 0.8, color="#eeeeee", lw=0.6, zorder=0)
    for number, (part, text) in enumerate(parts.items()):
        axes.add_patch(plt.Rectangle((-0.8 + 4.1 * number, -0.5), 0.3, 0.3, fc=COLOURS[part], ec="#555555", lw=0.6))
        axes.text(-0.35 + 4.1 * number, -0.36, f"{text}: {millions(getattr(network, part))}", fontsize=8, va="center")
    return figure, axes


def draw_transformer(axes: Axes, layers: int, start: Place) -> None:
    """Draw the four groups of blocks along the bottom row, and the taps going up to their scales."""
    for group, x in enumerate(GROUPS):
        first, last = 1 + group * layers // 4, (group + 1) * layers // 4
        box(axes, (x, ROWS[4]), f"blocks\n{first} to {last}", "transformer", width=1.35)
        arrow(axes, (start[0], ROWS[4]) if group == 0 else (GROUPS[group - 1] + 0.68, ROWS[4]), (x - 0.7, ROWS[4]))
        if group < 3:
            arrow(axes, (x + 0.85, ROWS[4]), (x + 0.85, ROWS[group + 1] - 0.47))


def draw_skips(axes: Axes, texts: tuple[str, str, str]) -> None:
    """Draw what brings each tap to its scale, and its way to the decoder."""
    for scale, (x, text) in enumerate(zip(GROUPS, texts, strict=False), start=1):
        box(axes, (x + 0.85, ROWS[scale]), text, "skips", width=2.3)
        arrow(axes, (x + 2.02, ROWS[scale]), (DECODER - 1.2, ROWS[scale]))


def draw_original(target: Path) -> None:
    """Draw the original UNETR."""
    network = build("original")
    parts = {
        "stem": "patches, image block",
        "transformer": "transformer",
        "skips": "deconvolution chains",
        "decoder": "U-Net decoder",
    }
    figure, axes = frame(network, "UNETR", parts)
    box(axes, (STEM - 1.6, ROWS[0]), "image\n1", "plain", width=1.1)
    box(axes, (STEM + 0.6, ROWS[0]), "residual block,\n16", "stem", width=2.1)
    box(axes, (STEM, ROWS[4]), "16 x 16 x 16\npatches, linear\n768", "stem", width=2.2, height=1.15)
    arrow(axes, (STEM - 1.0, ROWS[0]), (STEM - 0.5, ROWS[0]))
    arrow(axes, (STEM - 1.6, ROWS[0] - 0.47), (STEM - 0.8, ROWS[4] + 0.62))
    arrow(axes, (STEM + 1.7, ROWS[0]), (DECODER - 1.2, ROWS[0]))
    draw_transformer(axes, len(network.transformer.blocks), (STEM + 1.12, ROWS[4]))
    draw_skips(axes, ("3 upsamplings,\n2 blocks, 32", "2 upsamplings,\n1 block, 64", "upsampling\n128"))
    for scale in range(4):
        channels = network.decoder.blocks[scale].conv2.weight.shape[0]
        box(axes, (DECODER, ROWS[scale]), f"concatenate,\nblock, {channels}", "decoder", width=2.3)
        arrow(axes, (DECODER, ROWS[scale + 1] + 0.47), (DECODER, ROWS[scale] - 0.47))
    box(axes, (DECODER, ROWS[4]), "last output\n768", "transformer", width=2.3)
    arrow(axes, (GROUPS[3] + 0.68, ROWS[4]), (DECODER - 1.2, ROWS[4]))
    box(axes, (OUTPUT, ROWS[0]), "logits\n14", "plain", width=1.3)
    arrow(axes, (DECODER + 1.17, ROWS[0]), (OUTPUT - 0.7, ROWS[0]))
    save(figure, target)


def draw_modified(target: Path) -> None:
    """Draw the modified UNETR."""
    network = build("Modified")
    parts = {
        "stem": "CNN stem",
        "transformer": "light transformer",
        "skips": "aligned, gated skips",
        "decoder": "feature pyramid",
    }
    figure, axes = frame(network, "Modified UNETR", parts)
    box(axes, (STEM - 1.6, ROWS[0]), "image\n1", "plain", width=1.1)
    for scale in range(4):
        text = "convolution\n16" if scale == 0 else f"stride 2, residual\nblock, {16 * 2**scale}"
        box(axes, (STEM + 0.5, ROWS[scale]), text, "stem", width=2.3)
        end = (DECODER - 1.2, ROWS[0]) if scale == 0 else (GROUPS[scale - 1] - 0.32, ROWS[scale])
        arrow(axes, (STEM + 1.67, ROWS[scale]), end)
        arrow(axes, (STEM + 0.5, ROWS[scale] - 0.47), (STEM + 0.5, ROWS[scale + 1] + 0.47))
    box(axes, (STEM + 0.5, ROWS[4]), "stride 2\n768", "stem", width=1.6)
    arrow(axes, (STEM - 1.0, ROWS[0]), (STEM - 0.67, ROWS[0]))
    draw_transformer(axes, len(network.transformer.blocks), (STEM + 1.32, ROWS[4]))
    draw_skips(axes, ("align, gate,\nadd, 32", "align, gate,\nadd, 64", "align, gate,\nadd, 128"))
    for scale in range(4):
        channels = network.decoder.smoothings[scale].weight.shape[0]
        box(axes, (DECODER, ROWS[scale]), f"lateral + coarser,\nsmooth, {channels}", "decoder", width=2.3)
        arrow(axes, (DECODER, ROWS[scale + 1] + 0.47), (DECODER, ROWS[scale] - 0.47))
        text = "logits\n14" if scale == 0 else "training only:\nlogits, 14"
        box(axes, (OUTPUT + 0.1, ROWS[scale]), text, "plain", width=1.9, height=0.8)
        arrow(axes, (DECODER + 1.17, ROWS[scale]), (OUTPUT - 0.87, ROWS[scale]))
    box(axes, (DECODER, ROWS[4]), "align, gate\n768, then 48", "skips", width=2.3)
    arrow(axes, (GROUPS[3] + 0.68, ROWS[4]), (DECODER - 1.2, ROWS[4]))
    save(figure, target)


def build(architecture: str) -> nn.Module:
    """Return the base network at 96 x 96 x 96, without memory for its weights."""
    with torch.device("meta"):
        return build_unetr((96, 96, 96), None, 1, 14, architecture=architecture)


def save(figure: plt.Figure, target: Path) -> None:
    """Write the SVG, the same bytes each time."""
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None} if target.suffix == ".svg" else None)
    plt.close(figure)


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the two SVG files go")
    folder = parser.parse_args().folder
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "unetr", "font.family": "sans-serif"})
    draw_original(folder / "unetr_original.svg")
    draw_modified(folder / "unetr_modified.svg")


if __name__ == "__main__":
    main()
