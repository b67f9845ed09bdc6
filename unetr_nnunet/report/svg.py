"""Write SVG as escaped text: the few shapes that the figures of a report are made of.

Text stays text, so that it can be searched, copied, zoomed and read aloud. Everything passes through markupsafe, which
escapes it: the name of a case may be any text.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from unetr_nnunet.evaluation.metrics import NO_VALUE

INK, SOFT_INK, GRID, ACCENT, BOX = "#1f2933", "#5b6770", "#e3e7eb", "#0b5c9e", "#c9d6e2"


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: `Markup` is taken as it is, any other text is escaped.
        attributes: an underscore stands for a hyphen and is left out at the end (``class_``); None is left out.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value) if _is_number(value) else value)
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, join(children))


def typographic(text: str) -> str:
    """Return a number's text as the page shows it, with a minus and a dash in place of hyphens."""
    return "\u2013" if text == NO_VALUE else text.replace("-", "\u2212")


def join(parts: Iterable[str]) -> Markup:
    """Return parts in a row, plain text escaped."""
    return Markup("").join(escape(part) for part in parts)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _number(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def picture(width: float, height: float, label: str, *children: str, class_: str | None = None) -> Markup:
    """Return a drawing that scales with the page.

    Args:
        width: of the coordinate system; also the width beyond which it does not grow.
        height: of the coordinate system.
        label: what is seen, for those who do not see it.
        children: the shapes.
        class_: of the element.
    """
    box = f"0 0 {_number(width)} {_number(height)}"
    style = f"max-width:{_number(width)}px"
    attributes = {"viewBox": box, "role": "img", "aria-label": label, "style": style, "class_": class_}
    return tag("svg", *children, **attributes)


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return text whose base line is at ``y``; ``anchor`` is start, middle or end."""
    return tag("text", content, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, stroke: str = INK, width: float = 1) -> Markup:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width)


def polyline(points: Sequence[tuple[float, float]], stroke: str, width: float = 1.5, dash: str | None = None) -> Markup:
    """Return an open line through points."""
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return tag("polyline", points=path, fill="none", stroke=stroke, stroke_width=width, stroke_dasharray=dash)


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: pixel.
        end: pixel; less than ``start`` on a vertical axis.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values beyond the ends are drawn at the ends."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0), 1) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values (steps of 1, 2 or 5) within the scale."""
        return [tick for tick in _round_values(self.low, self.high, about) if self.low <= tick <= self.high + 1e-12]


def nice_scale(low: float, high: float, start: float, end: float, about: int = 5) -> Scale:
    """Return a scale whose ends are round values around ``low`` and ``high``."""
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    values = _round_values(low, high, about)
    return Scale(values[0], values[-1], start, end)


def _round_values(low: float, high: float, about: int) -> list[float]:
    rough = (high - low) / max(about, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def horizontal_axis(scale: Scale, top: float, bottom: float, about: int = 5) -> Markup:
    """Return grid lines from ``top`` to ``bottom`` with their values below."""
    ticks = [(scale(tick), f"{tick:g}") for tick in scale.ticks(about)]
    labels = [text(x, bottom + 13, value, anchor="middle", class_="tick") for x, value in ticks]
    return join([*(line(x, top, x, bottom, GRID) for x, _ in ticks), *labels])


def vertical_axis(scale: Scale, left: float, right: float, about: int = 4) -> Markup:
    """Return grid lines from ``left`` to ``right`` with their values on the left."""
    ticks = [(scale(tick), f"{tick:g}") for tick in scale.ticks(about)]
    labels = [text(left - 5, y + 3.5, value, anchor="end", class_="tick") for y, value in ticks]
    return join([*(line(left, y, right, y, GRID) for y, _ in ticks), *labels])
