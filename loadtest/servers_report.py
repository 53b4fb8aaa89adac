"""The table and the chart of servers.py."""

import math
import statistics

from peer import escape, ticks
from servers_client import FAILED, GIVEN_UP, REFUSED

TUTTI, FASTAPI, LIBRE = "tutti", "FastAPI + CTranslate2", "LibreTranslate"
COLOURS = {TUTTI: "#0b6e4f", FASTAPI: "#b3541e", LIBRE: "#3b5b92"}


def ms(value):
    return "∞" if math.isinf(value) else "%.1f" % value if value < 100 else "%.0f" % value


def range_of(values, show):
    middle, least, most = (show(value) for value in (statistics.median(values), min(values), max(values)))
    return middle if least == most else "%s (%s–%s)" % (middle, least, most)


class Rows:
    def __init__(self, cells):
        self.cells = {}
        for cell in cells:
            self.cells.setdefault(cell["server"], {}).setdefault(cell["offered"], []).append(cell)
        self.cells = {name: dict(sorted(self.cells[name].items())) for name in COLOURS if name in self.cells}

    def points(self, name, what):
        """Offered rates and medians, without the infinite ones."""
        found = [(rate, statistics.median(cell[what] for cell in cells)) for rate, cells in self.cells[name].items()]
        return [(rate, value) for rate, value in found if math.isfinite(value)]

    def in_time(self, name, share=0.99):
        """The highest rate up to which `share` of the requests were answered in time."""
        best = 0
        for rate, goodput in self.points(name, "goodput"):
            if goodput < share * rate:
                break
            best = rate
        return best


def table(rows, rounds):
    lines = ["| | offered/s | p50, ms | p99, ms | goodput/s | refused | given up | failed |", "|---|---|---|---|---|---|---|---|"]
    for name, by_rate in rows.cells.items():
        for rate, cells in by_rate.items():
            offered = "%g" % rate if len(cells) == rounds else "%g, %d of %d rounds" % (rate, len(cells), rounds)
            row = [name, offered, *(range_of([cell[what] for cell in cells], ms) for what in ("p50_ms", "p99_ms")),
                   range_of([cell["goodput"] for cell in cells], lambda value: "%.0f" % value),
                   *("%.1f %%" % (100 * statistics.median(cell[what] for cell in cells)) for what in (REFUSED, GIVEN_UP, FAILED))]
            lines.append("| %s |" % " | ".join(row))
    best = ", ".join("%s %g" % (name, rows.in_time(name)) for name in rows.cells)
    return [*lines, "", "Highest offered rate with at least 99 %% of the answers in time: %s." % best, ""]


def chart(rows, title, deadline):
    """An SVG with two panels: latencies and goodput over the offered load, all logarithmic."""
    width, height, left, top, inner, tall = 800, 390, 60, 72, 310, 250
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">' % (width, height),
           '<rect width="%d" height="%d" fill="#ffffff"/>' % (width, height),
           '<text x="%d" y="24" font-size="15" fill="#222222">%s</text>' % (left, escape(title))]

    def text(x, y, words, anchor="middle", colour="#444444"):
        out.append('<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>' % (x, y, anchor, colour, escape(words)))

    def line(points, colour, dashes="", thick=1.5):
        path = " ".join("%.1f,%.1f" % point for point in points)
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="%g" stroke-dasharray="%s"/>' % (path, colour, thick, dashes))

    rates = sorted({rate for by_rate in rows.cells.values() for rate in by_rate})
    panels = [(["p99_ms", "p50_ms"], "ms: p50 (dashed), p99"), (["goodput"], "answers within %g s, per second" % deadline)]
    for number, (whats, label) in enumerate(panels):
        start = left + number * (inner + 70)
        values = [value for what in whats for name in rows.cells for _, value in rows.points(name, what) if value > 0]
        values += [1e3 * deadline] if number == 0 else rates
        least, most, low, high = rates[0] / 1.2, rates[-1] * 1.2, min(values) / 1.3, max(values) * 1.3

        def at(rate, value):
            return start + inner * math.log(rate / least) / math.log(most / least), top + tall * math.log(high / value) / math.log(high / low)

        out.append('<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#999999"/>' % (start, top, inner, tall))
        for rate in rates:
            x, _ = at(rate, low)
            line([(x, top), (x, top + tall)], "#dddddd", thick=1)
            text(x, top + tall + 16, "%g" % rate)
        for value in ticks(low, high):
            _, y = at(least, value)
            line([(start, y), (start + inner, y)], "#dddddd", thick=1)
            text(start - 6, y + 4, "%g" % value, "end")
        text(start + inner / 2, top + tall + 36, "offered requests per second")
        text(start, top - 8, label, "start")
        if number == 0:
            line([at(least, 1e3 * deadline), at(most, 1e3 * deadline)], "#888888", "2 3")
        else:
            line([at(rate, rate) for rate in (rates[0], rates[-1])], "#888888", "2 3")
        for name in rows.cells:
            for what in whats:
                points = [at(*point) for point in rows.points(name, what) if point[1] > 0]
                line(points, COLOURS[name], "5 4" if what == "p50_ms" else "")
                out += ['<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>' % (*point, COLOURS[name]) for point in points]
    for i, name in enumerate(rows.cells):
        out.append('<circle cx="%d" cy="42" r="4" fill="%s"/>' % (left + 6 + 160 * i, COLOURS[name]))
        text(left + 16 + 160 * i, 46, name, "start", COLOURS[name])
    return "\n".join([*out, "</svg>", ""])
