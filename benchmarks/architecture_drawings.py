"""Draw the original and the modified UNETRs as SVG for the docs; figures are read from the networks where they can be.

python benchmarks/architecture_drawings.py docs/images
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import nn

from unetr_nnunet.architectures.build import build_unetr

COLOURS = {"stem": "#cfe8d5", "transformer": "#d6dcf5", "skips": "#fbe3c0", "decoder": "#f3d0d7", "plain": "#eeeeee"}
SIDE = 96  # voxels of the patch along each axis
TOP, STEP = 8.0, 1.6  # height of the full-resolution row, distance between rows
IMAGE, STEM, DECODER, OUTPUT, RIGHT = 0.1, 2.2, 12.6, 15.3, 16.3  # centres of the columns, and the end
BLOCKS = {4: (4.5, 6.25, 8.0, 9.75), 3: (4.8, 6.9, 9.0)}  # centres of the groups of blocks, by decoder stages
TAP = 0.78  # a tap goes up so far right of its blocks' centre
Place = tuple[float, float]


def box(axes: Axes, centre: Place, text: str, part: str, width: float = 2.3, height: float = 0.9) -> None:
    """Draw a box with text in a part's colour."""
    x, y = centre[0] - width / 2, centre[1] - height / 2
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.12", fc=COLOURS[part], ec="#555555", lw=0.8
        )
    )
    axes.text(*centre, text, ha="center", va="center", fontsize=8)


def arrow(axes: Axes, *places: Place) -> None:
    """Draw an arrow along a line with corners."""
    *line, end = places
    axes.plot(*zip(*line, strict=True), color="#444444", lw=0.9, solid_capstyle="butt")
    axes.annotate(
        "", xy=end, xytext=line[-1], arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 0.9, "shrinkA": 0}
    )


def note(axes: Axes, place: Place, text: str, align: str = "left") -> None:
    """Write in small type what happens along an arrow."""
    axes.text(*place, text, ha=align, va="center", fontsize=7, color="#444444", linespacing=1.1)


def millions(module: nn.Module) -> str:
    """Return the number of a module's parameters."""
    return f"{sum(value.numel() for value in module.parameters()) / 1e6:.1f} M"


class Drawing:
    """One network: scales are rows, full resolution at the top and tokens at the bottom; data flow to the right.

    Args:
        architecture: its name.
        title: of the drawing.
        parts: what each of the four parts is called in the legend.
    """

    def __init__(self, architecture: str, title: str, parts: dict[str, str]) -> None:
        with torch.device("meta"):  # without memory for the weights
            self.network = build_unetr((SIDE,) * 3, None, 1, 14, architecture=architecture)
        self.taps = self.network.transformer.taps
        self.stages = len(self.taps) + 1
        self.rows = [TOP - STEP * scale for scale in range(self.stages)] + [TOP - STEP * self.stages - 0.4]
        bottom = self.rows[-1] - 1.75
        height = 9.5 - bottom
        self.figure, self.axes = plt.subplots(figsize=(10.6, 0.61 * height))
        self.axes.set_xlim(-0.9, RIGHT + 0.1)
        self.axes.set_ylim(bottom, 9.5)
        self.axes.axis("off")
        self.axes.text(-0.8, 9.15, f"{title}: {millions(self.network)} parameters", fontsize=12, weight="bold")
        grid = " x ".join([str(SIDE // 2**self.stages)] * 3)
        scales = [f"1/{2**scale}" for scale in range(1, self.stages)]
        labels = [" x ".join([str(SIDE)] * 3), *scales, f"1/{2**self.stages}: {grid} tokens"]
        for row, label in zip(self.rows, labels, strict=True):
            self.axes.text(RIGHT, row + 0.63, label, fontsize=8, color="#777777", ha="right", va="center")
            self.axes.axhline(row + 0.85, color="#eeeeee", lw=0.6, zorder=0)
        for number, (part, text) in enumerate(parts.items()):
            x, count = -0.8 + 4.4 * number, millions(getattr(self.network, part))
            self.axes.add_patch(plt.Rectangle((x, bottom + 0.3), 0.3, 0.3, fc=COLOURS[part], ec="#555555", lw=0.6))
            self.axes.text(x + 0.45, bottom + 0.45, f"{text}\n{count}", fontsize=8, va="center")
        box(self.axes, (IMAGE, TOP), "image\n1", "plain", width=1.1)

    def transformer(self, start: float) -> None:
        """Draw the groups of blocks in the bottom row, from ``start`` on, and the taps going up to their scales."""
        row, centres = self.rows[-1], BLOCKS[self.stages]
        bounds = [0, *self.taps, len(self.network.transformer.blocks)]
        for group, x in enumerate(centres):
            box(self.axes, (x, row), f"blocks\n{bounds[group] + 1} to {bounds[group + 1]}", "transformer", width=1.3)
            arrow(self.axes, (start, row), (x - 0.67, row))
            start = x + 0.67
            if group < self.stages - 1:
                arrow(self.axes, (x + TAP, row), (x + TAP, self.rows[group + 1] - 0.47))
                note(self.axes, (x + TAP + 0.1, row + 0.62), "norm")
        arrow(self.axes, (start, row), (DECODER - 1.17, row))
        note(self.axes, (start + 0.1, row + 0.2), "norm")

    def skips(self, texts: Sequence[str]) -> None:
        """Draw what brings each tap to its scale, and its way to the decoder."""
        for scale, (x, text) in enumerate(zip(BLOCKS[self.stages], texts, strict=False), start=1):
            box(self.axes, (x + TAP, self.rows[scale]), text, "skips")
            arrow(self.axes, (x + TAP + 1.17, self.rows[scale]), (DECODER - 1.17, self.rows[scale]))

    def convolutional_stem(self, tokens: str) -> None:
        """Draw a stem that goes down to the token grid, with its maps on their way to the decoder."""
        arrow(self.axes, (IMAGE + 0.57, TOP), (STEM - 1.17, TOP))
        for scale in range(self.stages):
            row = self.rows[scale]
            text = "convolution\n16" if scale == 0 else f"stride 2, residual\nblock, {16 * 2**scale}"
            box(self.axes, (STEM, row), text, "stem")
            arrow(self.axes, (STEM, row - 0.47), (STEM, self.rows[scale + 1] + 0.47))
            end = DECODER - 1.17 if scale == 0 else BLOCKS[self.stages][scale - 1] + TAP - 1.17
            arrow(self.axes, (STEM + 1.17, row), (end, row))
        box(self.axes, (STEM, self.rows[-1]), tokens, "stem")

    def pyramid(self, width: int) -> None:
        """Draw the feature pyramid with its logits, from the last output of ``width`` channels on."""
        decoder = self.network.decoder
        for scale in range(self.stages):
            channels = decoder.smoothings[scale].weight.shape[0]
            box(self.axes, (DECODER, self.rows[scale]), f"lateral + coarser,\nsmooth, {channels}", "decoder")
            arrow(self.axes, (DECODER, self.rows[scale + 1] + 0.47), (DECODER, self.rows[scale] - 0.47))
            text = "logits\n14" if scale == 0 else "training only:\nlogits, 14"
            box(self.axes, (OUTPUT, self.rows[scale]), text, "plain", width=1.9, height=0.8)
            arrow(self.axes, (DECODER + 1.17, self.rows[scale]), (OUTPUT - 0.97, self.rows[scale]))
        text = f"align, gate\n{width}, then {decoder.top.weight.shape[0]}"
        box(self.axes, (DECODER, self.rows[-1]), text, "skips")

    def save(self, target: Path) -> None:
        """Write the drawing; an SVG has the same bytes each time."""
        metadata = {"Date": None} if target.suffix == ".svg" else None
        self.figure.savefig(target, bbox_inches="tight", metadata=metadata, dpi=150)
        plt.close(self.figure)


def original() -> Drawing:
    """Draw the original UNETR."""
    parts = {
        "stem": "patches, image block",
        "transformer": "transformer",
        "skips": "deconvolution chains",
        "decoder": "U-Net decoder",
    }
    drawing = Drawing("original", "UNETR", parts)
    axes, rows, decoder = drawing.axes, drawing.rows, drawing.network.decoder
    arrow(axes, (IMAGE + 0.57, TOP), (STEM - 1.17, TOP))
    box(axes, (STEM, TOP), "residual block\n16", "stem")
    arrow(axes, (STEM + 1.17, TOP), (DECODER - 1.17, TOP))
    arrow(axes, (IMAGE, TOP - 0.47), (IMAGE, rows[-1]), (STEM - 1.17, rows[-1]))
    note(axes, (IMAGE + 0.1, rows[-1] + 1.12), "16 x 16 x 16\npatches")
    box(axes, (STEM, rows[-1]), "norm, linear,\nnorm, 768", "stem")
    drawing.transformer(STEM + 1.17)
    drawing.skips(("3 upsamplings,\n2 blocks, 32", "2 upsamplings,\n1 block, 64", "upsampling\n128"))
    for scale in range(drawing.stages):
        channels = decoder.blocks[scale].conv2.weight.shape[0]
        box(axes, (DECODER, rows[scale]), f"concatenate,\nblock, {channels}", "decoder")
        arrow(axes, (DECODER, rows[scale + 1] + 0.47), (DECODER, rows[scale] - 0.47))
    box(axes, (DECODER, rows[-1]), "last output\n768", "transformer")
    box(axes, (OUTPUT, TOP), "logits\n14", "plain", width=1.9, height=0.8)
    arrow(axes, (DECODER + 1.17, TOP), (OUTPUT - 0.97, TOP))
    return drawing


def modified_v1() -> Drawing:
    """Draw the first modified UNETR."""
    parts = {
        "stem": "CNN stem",
        "transformer": "light transformer",
        "skips": "aligned, gated skips",
        "decoder": "feature pyramid",
    }
    drawing = Drawing("ModifiedV1", "ModifiedV1", parts)
    drawing.convolutional_stem("stride 2, norm\n768, then 384")
    drawing.transformer(STEM + 1.17)
    drawing.skips(("align, gate,\nadd, 32", "align, gate,\nadd, 64", "align, gate,\nadd, 128"))
    drawing.pyramid(768)
    return drawing


def modified() -> Drawing:
    """Draw the modified UNETR: finer tokens, and all of the stem's maps in them."""
    parts = {
        "stem": "projected stem",
        "transformer": "light local transformer",
        "skips": "aligned, gated skips",
        "decoder": "feature pyramid",
    }
    drawing = Drawing("Modified", "Modified", parts)
    axes, rows, stem = drawing.axes, drawing.rows, drawing.network.stem
    drawing.convolutional_stem("stride 2, add,\nnorm, 384")
    left = STEM - 1.6
    for scale, patch in enumerate(stem.patch_sizes, start=1):
        arrow(axes, (STEM - 1.17, rows[scale]), (left, rows[scale]), (left, rows[-1]), (STEM - 1.17, rows[-1]))
        note(axes, (left - 0.1, rows[scale] - 0.33), f"{' x '.join(map(str, patch))}\npatches,\nlinear", align="right")
    drawing.transformer(STEM + 1.17)
    drawing.skips(("align, gate,\nadd, 32", "align, gate,\nadd, 64"))
    drawing.pyramid(384)
    return drawing


def main() -> None:
    """Draw all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the three SVG files go")
    parser.add_argument("--png", action="store_true", help="PNG instead, to look at")
    args = parser.parse_args()
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "unetr", "font.family": "sans-serif"})
    suffix = "png" if args.png else "svg"
    for draw in (original, modified_v1, modified):
        draw().save(args.folder / f"unetr_{draw.__name__}.{suffix}")


if __name__ == "__main__":
    main()
