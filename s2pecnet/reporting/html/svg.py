"""A chart as SVG: two axes, and what is drawn between them.

Coordinates are the data's; an axis turns them into units of the picture (440 wide, about a CSS pixel each). Colours,
widths and dashes are classes of page.css, so that a chart follows the reader's light or dark mode.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2pecnet.reporting.html.markup import Markup, tag

Floats = NDArray[np.float64]

WIDTH = 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 10, 12, 44
_GRAIN = 4  # points are drawn at quarters of a unit: what lies closer together cannot be told apart on a screen


@dataclass(frozen=True)
class Axis:
    """What an axis spans, `low` < `high`, and its ticks with their labels."""

    low: float
    high: float
    label: str
    ticks: Sequence[tuple[float, str]]

    def share(self, values: ArrayLike) -> Floats:
        """Where values lie: 0 at the low end, 1 at the high one."""
        return (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float, label: str, about: int = 6) -> Axis:
    """An axis with about so many ticks at round numbers.

    >>> [text for _, text in linear_axis(-0.3, 1.1, "score").ticks]
    ['−0.25', '0', '0.25', '0.5', '0.75', '1']
    """
    raw = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= 0.999 * raw)
    values = [count * step for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Axis(low, high, label, [(value, number(value)) for value in values])


def number(value: float, digits: int = 6) -> str:
    """A number for people: short where it is small or large, with a minus sign instead of a hyphen.

    >>> number(-0.30000000000000004), number(0.00025), number(2e9)
    ('−0.3', '2.5e−4', '2e9')
    """
    text = f"{value:.{digits}g}"
    if value and abs(value) < 0.001:
        text = f"{value:.{digits - 1}e}"
    mantissa, e, exponent = text.partition("e")
    if e:
        text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
    return text.replace("-", "−")


class Chart:
    """What is drawn so far; `render` gives the picture."""

    def __init__(self, x: Axis, y: Axis, height: int = 320):
        self.x, self.y, self.height = x, y, height
        self._inside: list[Markup] = []
        self._above: list[Markup] = []

    def line(self, x: ArrayLike, y: ArrayLike, class_: str, title: str | None = None, run: int | None = None) -> None:
        """A line through points (n,), n >= 1, cut off at the axes."""
        data, words = _path_data(self._right(x), self._down(y)), tag("title", title) if title else None
        self._inside.append(tag("path", words, d=data, class_=f"line {class_}", data_run=run))

    def area(self, x: ArrayLike, y: ArrayLike, class_: str) -> None:
        """What lies between a line and the low end of the y axis."""
        across, bottom = self._right(x), float(self._down(self.y.low))
        data = f"{_path_data(across, self._down(y))}V{bottom:g}H{across[0]:g}Z"
        self._inside.append(tag("path", d=data, class_=f"area {class_}"))

    def dot(self, x: float, y: float, class_: str, title: str, run: int | None = None) -> None:
        """A point, with a text that shows when the pointer is on it."""
        across, down = f"{float(self._right(x)):.2f}", f"{float(self._down(y)):.2f}"
        r, classes = 3 if "small" in class_.split() else 4.5, f"dot {class_}"
        self._above.append(tag("circle", tag("title", title), cx=across, cy=down, r=r, class_=classes, data_run=run))

    def vertical(self, x: float, class_: str, title: str | None = None) -> None:
        """A line from bottom to top."""
        self.line([x, x], [self.y.low, self.y.high], class_, title)

    def horizontal(self, y: float, class_: str, title: str | None = None) -> None:
        """A line from side to side."""
        self.line([self.x.low, self.x.high], [y, y], class_, title)

    def column(self, low: float, high: float, title: str) -> None:
        """A part of the x axis with a text that shows when the pointer is on it."""
        left, right = float(self._right(low)), float(self._right(high))
        top, bottom = float(self._down(self.y.high)), float(self._down(self.y.low))
        across, width, height = f"{left:.2f}", f"{right - left:.2f}", bottom - top
        self._inside.append(
            tag("rect", tag("title", title), x=across, y=top, width=width, height=height, class_="column")
        )

    def note(self, x: float, y: float, text: str, where: str = "aside") -> None:
        """A text near a point: "aside", "beside", "above" or "below"; to the side where there is room."""
        share = float(self.x.share(x))
        aside, rise = {"aside": (9, -9), "beside": (15, 4), "above": (0, -14), "below": (0, 20)}[where]
        across = float(self._right(x)) + (aside if share < 0.6 else -aside)
        anchor = "start" if share < 0.6 else "end"
        if not aside and 0.2 < share < 0.8:
            anchor = "middle"
        down = min(max(float(self._down(y)) + rise, _TOP + 10), self.height - _BOTTOM - 6)
        self._above.append(tag("text", text, x=f"{across:.1f}", y=f"{down:.1f}", text_anchor=anchor, class_="note"))

    def render(self, description: str) -> Markup:
        """The picture; the description is for those who cannot see it."""
        left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, self.height - _BOTTOM
        width, height = right - left, bottom - top
        window = f"{left} {top} {width} {height}"
        x_ticks = [(float(self._right(value)), text) for value, text in self.x.ticks]
        y_ticks = [(float(self._down(value)), text) for value, text in self.y.ticks]
        grid = [f"M{across:.2f} {top}V{bottom}" for across, _ in x_ticks]
        grid += [f"M{left} {down:.2f}H{right}" for down, _ in y_ticks]
        turned = f"translate(11 {(top + bottom) / 2:g}) rotate(-90)"
        return tag(
            "svg",
            tag("path", d="".join(grid), class_="grid"),
            tag("path", d=f"M{left} {bottom}H{right}", class_="axis"),
            (_text(across, bottom + 16, text, "middle") for across, text in x_ticks),
            (_text(left - 7, down + 4, text, "end") for down, text in y_ticks),
            _text((left + right) / 2, self.height - 6, self.x.label, "middle", class_="label"),
            _text(0, 0, self.y.label, "middle", class_="label", transform=turned),
            tag("svg", self._inside, x=left, y=top, width=width, height=height, viewBox=window),
            self._above,
            viewBox=f"0 0 {WIDTH} {self.height}",
            role="img",
            aria_label=description,
            class_="chart",
        )

    def _right(self, x: ArrayLike) -> Floats:
        return np.asarray(_LEFT + self.x.share(x) * (WIDTH - _LEFT - _RIGHT))

    def _down(self, y: ArrayLike) -> Floats:
        return np.asarray(_TOP + (1 - self.y.share(y)) * (self.height - _TOP - _BOTTOM))


def _text(x: float, y: float, text: str, anchor: str, class_: str = "tick", transform: str | None = None) -> Markup:
    return tag("text", text, x=f"{x:.2f}", y=f"{y:.2f}", text_anchor=anchor, transform=transform, class_=class_)


def _path_data(x: Floats, y: Floats) -> str:
    """The d of a path through the points that make a difference on a screen."""
    # What lies far outside is cut off anyway, and must not spoil the rounding.
    points = np.column_stack((x, y)).clip(-10_000, 10_000)
    points = np.round(points * _GRAIN) / _GRAIN
    points = points[np.concatenate(([True], np.any(np.diff(points, axis=0), axis=1)))]
    steps = np.diff(points, axis=0)
    crossed = steps[1:, 0] * steps[:-1, 1] != steps[1:, 1] * steps[:-1, 0]
    turned_back = np.sum(steps[1:] * steps[:-1], axis=1) < 0
    corners = np.concatenate(([True], crossed | turned_back, [True]))[: len(points)]
    return "M" + "L".join(f"{across:g} {down:g}" for across, down in points[corners].tolist())


def swatch(class_: str) -> Markup:
    """A sample of a line of a chart: its colour and its dashes."""
    line = tag("path", d="M1 6H27", class_=f"line {class_}")
    return tag("svg", line, viewBox="0 0 28 12", class_="swatch", aria_hidden="true")
