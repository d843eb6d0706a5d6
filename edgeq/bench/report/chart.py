"""A report's drawings as inline SVG: text is escaped, colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgeq.bench.report.cells import plain
from edgeq.bench.report.scores import Confusion
from edgeq.bench.report.spans import MOST_LINES, Chart, Point, Span, Sweep

_WIDTH = 360
_SHAPES = (
    "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0z",
    "M-4,-4h8v8h-8z",
    "M0,-5L5,4H-5z",
    "M0,-5.5L5.5,0L0,5.5L-5.5,0z",
    "M0,5L5,-4H-5z",
    "M-2.5,-4.5h5L5,0L2.5,4.5h-5L-5,0z",
    "M-5,-1.7h3.3V-5h3.4v3.3H5v3.4H1.7V5h-3.4V1.7H-5z",
    "M0,-5.5L5,-1.6L3.2,4.6H-3.2L-5,-1.6z",
)
SERIES = MOST_LINES
"""Places that have a colour and a shape of their own; more begin again."""

_MOST_TICKS = 5
_LARGE = 20
"""Classes above which a confusion matrix is drawn large."""

MOST_CLASSES = 120
"""Classes above which a confusion matrix cannot be read and is not drawn."""


def series(place: str, places: Sequence[str]) -> str:
    """The style of a place, by its number; none where a cost is the same in all."""
    return f"s{places.index(place) % SERIES}" if place in places else "everywhere"


def marker(style: str, kind: str | None) -> Markup:
    """A place's sign as it stands in the charts: colour and shape say the place, its filling how it was come by."""
    return Markup('<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg>').format(_sign(style, kind))


def logarithmic(low: float, high: float) -> tuple[float, ...]:
    """Steps 1, 2, 5, 10, ... around what lies between low and high, above zero: the first and the last are the ends."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= low)
    last = min(index for index, step in enumerate(steps) if step >= high)
    if first == last:
        first, last = first - 1, last + 1
    return tuple(steps[first : last + 1])


def latency_steps(places: Sequence[tuple[str, Sequence[Span]]]) -> tuple[float, ...]:
    """The steps of one axis for all spans."""
    spans = [span for _, found in places for span in found]
    return logarithmic(min(span.low for span in spans), max(span.high for span in spans))


def part(value: float, steps: Sequence[float]) -> float:
    """Where a value stands between the first step and the last, 0 to 1, on a logarithmic axis."""
    return (math.log(value) - math.log(steps[0])) / (math.log(steps[-1]) - math.log(steps[0]))


def accuracy_against_cost(chart: Chart, places: Sequence[str]) -> Markup:
    """A point a result: its shape says the place, its line the band. The front of each place is a step line."""
    accuracies = {point.span.entry.model: point.accuracy[1] for point in chart.points}
    names = sorted(accuracies, key=lambda model: -accuracies[model])
    axes = _Axes(
        logarithmic(min(point.span.low for point in chart.points), max(point.span.high for point in chart.points)),
        _levels([value for point in chart.points for value in point.accuracy]),
        bottom=14 + max(190, 15 * len(names)),
    )
    drawn = [_grid(axes, chart)]
    for model, at in zip(names, _apart([axes.y(accuracies[name]) for name in names], axes), strict=True):
        drawn.append(_named(model, [point for point in chart.points if point.span.entry.model == model], at, axes))
    for place in dict.fromkeys(point.place for point in chart.points):
        front = [point for point in chart.points if point.place == place and point.front]
        drawn.append(_front(front, series(place, places), axes))
    drawn += [_point(point, series(point.place, places), axes) for point in chart.points]
    said = "; ".join(map(_line, chart.points))
    return _svg((_WIDTH, axes.bottom + 36), f"Accuracy against {chart.title}", said, drawn)


def against_batch(sweep: Sweep) -> Markup:
    """A line a model and place, both axes logarithmic; each point says its figure."""
    names = [name for name, _ in sweep.lines]
    spans = [span for _, line in sweep.lines for _, span in line]
    batches = sorted({batch for _, line in sweep.lines for batch, _ in line})
    steps = logarithmic(min(span.at for span in spans), max(span.at for span in spans))
    left, right, top, bottom = 46.0, _WIDTH - 14.0, 14.0, 204.0

    def place(batch: int, value: float) -> tuple[float, float]:
        along = left + 10 + part(batch, (batches[0], batches[-1])) * (right - left - 10)  # beside the axis, not on it
        return along, bottom - part(value, steps) * (bottom - top)

    drawn = []
    for batch in batches:
        x, _ = place(batch, steps[0])
        drawn.append(_upright(x, top, bottom, f"{batch:,}"))
    for step in _few(steps):
        _, y = place(batches[0], step)
        drawn.append(_across(y, left, right, _tick(sweep.form(step))))
    drawn.append(
        Markup('<text class="axis" x="{}" y="{}" text-anchor="end">windows a call</text>').format(right, bottom + 30)
    )
    for name, line in sweep.lines:
        style = series(name, names)
        path = "L".join("{:.1f},{:.1f}".format(*place(batch, span.at)) for batch, span in line)
        drawn.append(Markup('<path class="front {}" d="M{}"/>').format(style, path))
        for batch, span in line:
            drawn.append(
                Markup('<g class="point best {}" transform="translate({:.1f},{:.1f})">{}{}</g>').format(
                    style,
                    *place(batch, span.at),
                    _title(f"{name}, batch {batch}: {plain(span.cell.text)}"),
                    _sign(style, span.cell.kind),
                )
            )
    said = "; ".join(
        f"{name}: {', '.join(f'{plain(span.cell.text)} at {batch}' for batch, span in line)}"
        for name, line in sweep.lines
    )
    return _svg((_WIDTH, bottom + 36), f"{sweep.title} against the batch", said, drawn)


def confusion(matrix: Confusion) -> Markup:
    """Rows are labels, columns answers; a cell is the stronger the larger its part of its row."""
    size = len(matrix.labels)
    large = size > _LARGE
    width, head = (760.0, 124.0) if large else (float(_WIDTH), 88.0)
    cell = (width - head - 2) / size
    letters = min(10.5, cell * 0.85)
    drawn = [Markup('<g style="font-size:{:.1f}px;--count:{:.1f}px">').format(letters, min(letters, cell * 0.62))]
    for index, label in enumerate(matrix.labels):
        at, room = head + (index + 0.5) * cell + letters / 3, int((head - 6) / letters / 0.56)
        for where in (f"translate({head - 5:.1f},{at:.1f})", f"translate({at:.1f},{head - 5:.1f}) rotate(-90)"):
            anchor = "start" if "rotate" in where else "end"
            drawn.append(
                Markup('<text transform="{}" text-anchor="{}">{}{}</text>').format(
                    where, anchor, _short(label, room), _title(label)
                )
            )
    for row, counts in enumerate(matrix.counts):
        for column, count in enumerate(counts):
            if count:
                drawn.append(_clips(matrix, row, column, (head + column * cell, head + row * cell, cell)))
    frame = Markup('<rect class="frame" x="{0}" y="{0}" width="{1:.1f}" height="{1:.1f}"/></g>')
    drawn.append(frame.format(head, size * cell))
    worst = "; ".join(f"{label} taken for {answer}: {count}" for label, answer, count in matrix.worst)
    what = f"Confusion matrix of {matrix.model}, {matrix.form}: {size} classes"
    return _svg((width, width), what, worst or "no clip was confused", drawn, "large" if large else "")


@dataclass(frozen=True)
class _Axes:
    """Costs run to the right on a logarithmic axis, accuracies upwards on a linear one."""

    costs: tuple[float, ...]
    levels: tuple[float, ...]
    bottom: float
    left: float = 40
    right: float = _WIDTH - 112
    top: float = 14

    def x(self, cost: float) -> float:
        return self.left + part(cost, self.costs) * (self.right - self.left)

    def y(self, accuracy: float) -> float:
        share = (accuracy - self.levels[0]) / (self.levels[-1] - self.levels[0])
        return self.bottom - share * (self.bottom - self.top)


def _levels(values: Sequence[float]) -> tuple[float, ...]:
    """Round fractions around all values, at most seven."""
    low, high = max(0.0, min(values)), min(1.0, max(values))
    for hundredths in (0.5, 1, 2, 5, 10, 20):
        step = hundredths / 100
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        last = max(last, first + 1)
        if last - first <= 6:
            break
    return tuple(index * step for index in range(first, last + 1))


def _upright(x: float, top: float, bottom: float, text: str) -> Markup:
    return Markup(
        '<path class="grid" d="M{0:.1f},{1}V{2}"/>'
        '<text class="tick" x="{0:.1f}" y="{3}" text-anchor="middle">{4}</text>'
    ).format(x, top, bottom, bottom + 14, text)


def _across(y: float, left: float, right: float, text: str) -> Markup:
    return Markup(
        '<path class="grid" d="M{0},{1:.1f}H{2}"/><text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
    ).format(left, y, right, left - 5, y + 3.5, text)


def _grid(axes: _Axes, chart: Chart) -> Markup:
    drawn = Markup("")
    for cost in _few(axes.costs):
        drawn += _upright(axes.x(cost), axes.top, axes.bottom, _tick(chart.form(cost)))
    for level in axes.levels:
        drawn += _across(axes.y(level), axes.left, axes.right, f"{100 * level:.4g} %")
    return drawn + Markup('<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>').format(
        axes.right, axes.bottom + 30, chart.title
    )


def _few(steps: Sequence[float]) -> Sequence[float]:
    """As many steps as there is room for: all, or those of fewer digits."""
    for digits in ("125", "15", "1"):
        found = [step for step in steps if f"{step:e}"[0] in digits]
        if len(found) <= _MOST_TICKS:
            break
    return found[:: math.ceil(len(found) / _MOST_TICKS)]


def _tick(text: str) -> str:
    """Without the zeros that a figure has for its precision."""
    number, space, unit = text.partition(" ")
    return f"{float(number.replace(',', '')):,.15g}{space}{unit}"


def _named(model: str, points: Sequence[Point], at: float, axes: _Axes) -> Markup:
    """A model's name at the right, and the line to its points: all of them are about equally accurate."""
    height, start = axes.y(points[0].accuracy[1]), min(axes.x(point.span.at) for point in points)
    return Markup('<path class="leader" d="M{:.1f},{:.1f}H{}L{},{:.1f}"/><text x="{}" y="{:.1f}">{}{}</text>').format(
        start, height, axes.right, axes.right + 8, at, axes.right + 11, at + 3.5, _short(model, 17), _title(model)
    )


def _front(points: Sequence[Point], style: str, axes: _Axes) -> Markup:
    places = sorted((axes.x(point.span.at), axes.y(point.accuracy[1])) for point in points)
    path = f"M{places[0][0]:.1f},{places[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
    return Markup('<path class="front {}" d="{}"/>').format(style, path)


def _point(point: Point, style: str, axes: _Axes) -> Markup:
    span, (low, mean, high) = point.span, point.accuracy
    x, y = axes.x(span.at), axes.y(mean)
    title = _title(_line(point))
    return Markup(
        '<g class="point {}{}">{}<path class="interval" d="M{:.1f},{:.1f}V{:.1f}"/>'
        '<path class="band" d="M{:.1f},{:.1f}H{:.1f}"/><g transform="translate({:.1f},{:.1f})">{}</g></g>'
    ).format(
        style, " best" if point.front else "", title, x, axes.y(low), axes.y(high), axes.x(span.low), y,
        axes.x(span.high), x, y, _sign(style, span.cell.kind),
    )  # fmt: skip


def _sign(style: str, kind: str | None) -> Markup:
    shape = _SHAPES[int(style[1:])] if style[1:].isdigit() else _SHAPES[0]
    return Markup('<path class="sign {} {}" d="{}"/>').format(style, kind or "unsaid", shape)


def _clips(matrix: Confusion, row: int, column: int, box: tuple[float, float, float]) -> Markup:
    """One cell, and its count where there is room for it."""
    count, of = matrix.counts[row][column], sum(matrix.counts[row])
    x, y, cell = box
    drawn = Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}">{}</rect>'
    ).format(
        "right" if row == column else "wrong", x + 0.5, y + 0.5, cell - 1, cell - 1, 0.15 + 0.5 * count / of,
        _title(f"{matrix.labels[row]} heard as {matrix.labels[column]}: {count}"),
    )  # fmt: skip
    if cell < 12:
        return drawn
    return drawn + Markup('<text class="count" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
        x + cell / 2, y + cell / 2 + 3.5, count
    )


def _apart(heights: Sequence[float], axes: _Axes, least: float = 13) -> list[float]:
    """Heights of names, from the top down, moved as little as keeps them from standing on each other."""
    found: list[float] = []
    for height in heights:
        found.append(max(height, found[-1] + least) if found else max(height, axes.top))
    limit = axes.bottom
    for index in reversed(range(len(found))):
        found[index] = min(found[index], limit)
        limit = found[index] - least
    return found


def _line(point: Point) -> str:
    where = f" on {point.place}" if point.place else ""
    kind = f", {point.span.cell.kind}" if point.span.cell.kind else ""
    front = ", on the front" if point.front else ""
    return f"{point.span.entry.model}{where}: {plain(point.text)}, {plain(point.span.cell.text)}{kind}{front}"


def _short(text: str, most: int) -> str:
    """The beginning and the end of a long name: those of a family begin alike."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def _title(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text)


def _svg(size: tuple[float, float], name: str, description: str, drawn: Sequence[Markup], style: str = "") -> Markup:
    return Markup('<svg class="drawing {}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        style, *size, f"{name}. {description}.", Markup("").join(drawn)
    )
