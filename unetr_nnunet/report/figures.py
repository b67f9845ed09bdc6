"""Draw means with their intervals, distributions of each organ, paired differences, and learning curves."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from unetr_nnunet.evaluation.metrics import DICE
from unetr_nnunet.evaluation.statistics import Estimate
from unetr_nnunet.evaluation.verdict import Difference, Outcome, count
from unetr_nnunet.nnunet.training_log import FoldLog
from unetr_nnunet.report.svg import (
    ACCENT,
    BOX,
    GRID,
    INK,
    SOFT_INK,
    Scale,
    horizontal_axis,
    join,
    line,
    nice_scale,
    picture,
    polyline,
    tag,
    text,
    typographic,
    vertical_axis,
)

MOST_DOTS = 120
"""Of more cases than these, evenly spaced ranks are drawn, lowest and highest always."""
MOST_POINTS = 200
"""Of a learning curve."""
LETTER, CAPITAL = 7.8, 9.2
"""Width of a letter in the figures, in pixels, on the wide side; names that are longer than their space are cut."""
LINE = 13.0
"""Between two lines of text, in pixels."""
FOLD_STYLES = (("#0b5c9e", None), ("#b8500b", "6 2"), ("#137a5a", "2 2"), ("#a03a7d", "8 2 2 2"), ("#444444", "1 3"))
"""Colour and dash of each fold, so that neither is needed to tell them apart."""


T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One model in a figure: its name, a value for each case, and mean and interval of those."""

    name: str
    values: Sequence[float]
    estimate: Estimate


def fit(name: str, width: float) -> str:
    """Return a name that fits into a width, cut in the middle; the full one is in the tables."""
    cut = name
    for kept in range(len(name) - 1, 6, -1):
        if text_width(cut) <= width:
            break
        cut = f"{name[: kept // 2]}…{name[len(name) - (kept - kept // 2) :]}"
    return cut


def text_width(label: str) -> float:
    """Return about how many pixels a text takes."""
    return sum(CAPITAL if letter.isupper() else LETTER for letter in label)


def name_lines(name: str, width: float) -> list[str]:
    """Return a name in one line, or in two where it is too long; a break comes after an underscore or a space."""
    if text_width(name) <= width:
        return [name]
    ends = [end for end in range(1, len(name)) if name[end - 1] in "_ " and text_width(name[:end]) <= width]
    halves = (name[: ends[-1]], name[ends[-1] :]) if ends else (name,)
    return [fit(half.strip(), width) for half in halves]


def _label(name: str, right: float, y: float, width: float) -> Markup:
    """Draw a model's name, which ends at ``right``, around ``y``; the full one shows under the pointer."""
    lines = name_lines(name, width)
    first = y + 4 - LINE * (len(lines) - 1) / 2
    rows = (text(right, first + LINE * place, row, anchor="end") for place, row in enumerate(lines))
    return tag("g", tag("title", name), *rows)


def mean_figure(rows: Sequence[Row], caption: str) -> Markup:
    """Draw each model's mean and 95 % interval over its cases, and the cases as dots behind."""
    width, left, right, step, top = 690.0, 200.0, 134.0, 34.0 if len(rows) <= 8 else 28.0, 22.0
    values = [value for row in rows for value in row.values]
    scale = nice_scale(min(values, default=0), max(values, default=1), left, width - right)
    bottom = top + step * len(rows)
    shapes = [
        horizontal_axis(scale, top, bottom),
        text(width - right + 10, top - 8, "mean, 95 % interval", class_="tick"),
    ]
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        colour = ACCENT if index == 0 else INK
        shapes += [
            _dots(scale, row.values, y, step * 0.22),
            _interval(scale, row.estimate, y, colour, 5.5),
            _label(row.name, left - 10, y, left - 14),
            text(width - right + 10, y + 1, DICE.text(row.estimate.mean), class_="value"),
            text(width - right + 10, y + 12, _range(row.estimate), class_="tick"),
        ]
    shapes.append(
        text((left + width - right) / 2, bottom + 29, "Dice, mean over the organs of a case", anchor="middle")
    )
    return picture(width, bottom + 36, caption, *shapes)


def _range(estimate: Estimate) -> str:
    return "no interval" if math.isnan(estimate.low) else DICE.interval(estimate.low, estimate.high)


def _interval(scale: Scale, estimate: Estimate, y: float, colour: str, radius: float) -> Markup:
    if math.isnan(estimate.mean):
        return Markup("")
    has_ends = not math.isnan(estimate.low)
    whisker = [line(scale(estimate.low), y, scale(estimate.high), y, colour, 2.5)] if has_ends else []
    return join([*whisker, tag("circle", cx=scale(estimate.mean), cy=y, r=radius, fill=colour)])


def _dots(scale: Scale, values: Sequence[float], y: float, spread: float) -> Markup:
    """Draw values as dots, moved up and down in turn so that they hide each other less.

    They are points of one path, drawn with a round pen: thousands of circles would make the page slow to load.
    """
    offsets = (0, 1, -1, 0.5, -0.5)
    points = (
        f"M{scale(value):.1f} {y + spread * offsets[index % len(offsets)]:.1f}h0"
        for index, value in enumerate(evenly(sorted(values), MOST_DOTS))
    )
    return tag("path", d="".join(points), class_="dots")


def evenly(values: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` of the values, evenly spaced, first and last always."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]


def distribution_figure(rows: Sequence[Row], scale_values: tuple[float, float], caption: str) -> Markup:
    """Draw one organ: for each model every case as a dot, the box between the quartiles and the median."""
    width, left, right, top = 400.0, 136.0, 30.0, 4.0
    step = 8 + LINE * max((len(name_lines(row.name, left - 10)) for row in rows), default=1)
    scale = nice_scale(*scale_values, left, width - right)
    bottom = top + step * len(rows)
    shapes = [horizontal_axis(scale, top, bottom, 4)]
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        shapes += [
            _box(scale, row.values, y),
            _dots(scale, row.values, y, 3.2),
            _median(scale, row.values, y),
            _label(row.name, left - 8, y, left - 10),
            text(width - 2, y + 4, str(len(row.values)), anchor="end", class_="tick"),
        ]
    return picture(width, bottom + 18, caption, *shapes)


def _box(scale: Scale, values: Sequence[float], y: float) -> Markup:
    if len(values) < 4:
        return Markup("")
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return tag("rect", x=scale(low), y=y - 6, width=max(scale(high) - scale(low), 1), height=12, fill=BOX)


def _median(scale: Scale, values: Sequence[float], y: float) -> Markup:
    if not values:
        return text(scale(scale.low) + 6, y + 4, "no case has a value", class_="tick")
    middle = scale(statistics.median(values))
    return line(middle, y - 7.5, middle, y + 7.5, INK, 2)


def difference_cell(difference: Difference, scale: Scale, label: str) -> Markup:
    """Draw one difference with its interval, zero marked; filled where the test finds a difference."""
    height = 18.0
    zero = scale(0)
    shapes = [line(zero, 0, zero, height, SOFT_INK, 1)]
    if difference.cases:
        sure = difference.outcome is Outcome.BETTER
        colour = ACCENT if sure else SOFT_INK
        if not math.isnan(difference.low):
            shapes.append(line(scale(difference.low), 9, scale(difference.high), 9, colour, 2))
        circle = {"cx": scale(difference.difference), "cy": 9.0, "r": 4.5, "stroke_width": 1.5}
        shapes.append(tag("circle", **circle, fill=colour if sure else "#fff", stroke=colour))
    return picture(scale.end + 6, height, label, *shapes)


def difference_axis(scale: Scale) -> Markup:
    """Draw the axis above the difference cells."""
    ticks = [
        text(scale(tick), 11, typographic(f"{tick:+g}") if tick else "0", anchor="middle", class_="tick")
        for tick in scale.ticks(4)
    ]
    return picture(scale.end + 6, 14, "axis", *ticks)


def learning_figure(logs: Sequence[FoldLog], epochs: int, losses: tuple[float, float], caption: str) -> Markup:
    """Draw the losses and the pseudo Dice of every fold of one model.

    Args:
        logs: one for each fold.
        epochs: last epoch of the longest training of the page.
        losses: lowest and highest loss of the page, so that the models' curves have one scale.
        caption: what is seen.
    """
    width, left, panel, gap = 400.0, 40.0, 110.0, 30.0
    across = Scale(0, max(epochs, 1), left, width - 12)
    shapes: list[Markup] = []
    top = 16.0
    for title, names, limits in (
        ("loss: training (thin), validation (bold)", ("train_loss", "val_loss"), losses),
        ("pseudo Dice on patches, mean over organs", ("pseudo_dice",), (0.0, 1.0)),
    ):
        down = nice_scale(*limits, top + panel, top, 4)
        shapes += [vertical_axis(down, left, width - 12), text(left, top - 5, title, class_="tick")]
        for index, log in enumerate(logs):
            for name in names:
                shapes.append(_curve(log, name, across, down, index))
        top += panel + gap
    shapes.append(_epochs_axis(across, top - gap))
    return picture(width, top + 2, caption, *shapes)


def _epochs_axis(across: Scale, y: float) -> Markup:
    ticks = [tick for tick in across.ticks(5) if tick == int(tick)]
    return join(
        [
            line(across.start, y, across.end, y, GRID),
            *(text(across(tick), y + 13, f"{tick:g}", anchor="middle", class_="tick") for tick in ticks),
            text(across.end, y + 26, "epoch", anchor="end", class_="tick"),
        ]
    )


def _curve(log: FoldLog, name: str, across: Scale, down: Scale, index: int) -> Markup:
    colour, dash = FOLD_STYLES[index % len(FOLD_STYLES)]
    points = [(across(epoch), down(value)) for epoch, value in evenly(log.curve(name), MOST_POINTS)]
    if not points:
        return Markup("")
    thin = name == "train_loss"
    title = tag("title", f"fold {log.fold}, {name.replace('_', ' ')}, {len(log.epochs)} epochs")
    if len(points) == 1:
        return tag("g", title, tag("circle", cx=points[0][0], cy=points[0][1], r=2.5, fill=colour))
    return tag("g", title, polyline(points, colour, 1.0 if thin else 1.8, dash))


def fold_key(index: int) -> Markup:
    """Draw a fold's line, for the legend."""
    colour, dash = FOLD_STYLES[index % len(FOLD_STYLES)]
    return picture(28, 10, "line", polyline([(0, 5), (28, 5)], colour, 2, dash))


def caption_of(rows: Sequence[Row], what: str) -> str:
    """Return a description of a figure, for screen readers."""
    parts = [
        f"{row.name} {DICE.text(row.estimate.mean)} ({_range(row.estimate)}, {count(len(row.values), 'case')})"
        for row in rows
    ]
    return f"{what}: " + "; ".join(parts)
