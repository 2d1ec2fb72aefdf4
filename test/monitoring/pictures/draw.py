"""Draws what panels of dashboards show, as written by the command beside it: draw.py PICTURES.JSON FOLDER.

The result is near to what Grafana shows, so that a reader of the documentation sees what he gets. It needs matplotlib.
"""

import json
import math
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle, Wedge
from PIL import Image

UNIT = 36  # pixels of a row of the grid
COLUMN = 62  # pixels of a column
DPI = 100
INK, FAINT, PAPER, CARD, LINE = "#24292e", "#6b7280", "#f4f5f7", "#ffffff", "#e3e5e8"
PALETTE = ["#3a76c9", "#e0883b", "#4c9a52", "#8e63b5", "#c94f4f", "#3aa3a8", "#b8963a", "#7a7f87", "#d26fa5", "#5f7d3a"]
NAMED = {
    "green": "#4c9a52", "red": "#d14545", "orange": "#e0883b", "yellow": "#d9b02e", "blue": "#3a76c9", "purple": "#8e63b5",
    "super-light-blue": "#8fbbe8", "text": "#4b5563", "transparent": None,
}


def thousands(value, digits):
    return f"{value:,.{digits}f}"


def duration(value):
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.1f} {name}"
    return f"{value:.3g} s"


def size(value):
    for bound, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(value) >= bound:
            return f"{value / bound:.1f} {name}"
    return f"{value:.0f} B"


def text_of(value, unit, digits=None):
    """A value as a reader wants it, in the unit of its panel."""
    if value is None or math.isnan(value):
        return "-"
    if unit == "currencyUSD":
        return "$" + thousands(value, 2 if digits is None else digits)
    if unit == "percentunit":
        return thousands(value * 100, 1 if digits is None else digits) + " %"
    if unit == "s":
        return duration(value)
    if unit == "bytes":
        return size(value)
    if digits is None:
        digits = 0 if float(value).is_integer() else 1
    return thousands(value, digits) + (" /s" if unit == "reqps" else "")


def legend_of(panel, target, series):
    """The name of a series, by the legend of its query."""
    legend = target["legendFormat"]
    if legend == "__auto":
        return panel["title"]
    return re.sub(r"\{\{(\w+)\}\}", lambda m: series["labels"].get(m.group(1), ""), legend)


def named_series(panel):
    """All series of a panel with their names, those of one name apart only by their order."""
    for target, answer in zip(panel["targets"], panel["answers"], strict=True):
        for series in sorted(answer, key=lambda s: legend_of(panel, target, s)):
            yield legend_of(panel, target, series), series["points"]


def color_at(steps, value):
    """The color of a value by the thresholds of its panel."""
    color = "blue"
    for step in steps:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return NAMED.get(color) or INK


class Canvas:
    """One dashboard, drawn in pixels from its upper left corner."""

    def __init__(self, picture):
        rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in picture["panels"])
        self.width, self.height = 24 * COLUMN + 16, rows * UNIT + 60
        self.picture = picture
        self.figure = plt.figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor=PAPER)
        self.page = self.axes(0, 0, self.width, self.height)
        self.page.set_xlim(0, self.width)
        self.page.set_ylim(self.height, 0)
        self.page.axis("off")

    def axes(self, x, y, w, h):
        return self.figure.add_axes((x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height))

    def write(self, x, y, text, size=10, color=INK, **kw):
        self.page.text(x, y, text.replace("$", r"\$"), fontsize=size, color=color, **kw)

    def draw(self):
        self.write(16, 34, self.picture["title"], 15, weight="bold", va="center")
        for panel in self.picture["panels"]:
            grid = panel["gridPos"]
            box = (8 + grid["x"] * COLUMN + 3, 56 + grid["y"] * UNIT + 3, grid["w"] * COLUMN - 6, grid["h"] * UNIT - 6)
            if panel["type"] == "row":
                self.write(box[0] + 6, box[1] + box[3] / 2, panel["title"], 11, weight="bold", va="center")
                continue
            self.page.add_patch(FancyBboxPatch(
                box[:2], box[2], box[3], boxstyle="round,pad=0,rounding_size=4", facecolor=CARD, edgecolor=LINE, linewidth=1))
            self.write(box[0] + 10, box[1] + 16, panel["title"], 9.5, weight="bold", va="center")
            {"stat": self.stat, "gauge": self.gauge, "bargauge": self.bars, "timeseries": self.graph}[panel["type"]](panel, *box)

    def stat(self, panel, x, y, w, h):
        defaults = panel["fieldConfig"]["defaults"]
        found = list(named_series(panel))
        if not found:
            self.write(x + w / 2, y + h / 2 + 8, defaults.get("noValue", "no data"), 14, FAINT, ha="center", va="center")
        texts = [text_of(points[-1]["value"], defaults["unit"], defaults.get("decimals")) for _, points in found]
        for i, (name, points) in enumerate(found):
            value = points[-1]["value"]
            text, color = text_of(value, defaults["unit"], defaults.get("decimals")), color_at(defaults["thresholds"]["steps"], value)
            for mapping in defaults.get("mappings", []):
                option = mapping["options"].get(f"{value:g}")
                if option:
                    text, color = option["text"], NAMED[option["color"]]
            middle = x + w * (i + 0.5) / len(found)
            fits = w / len(found) / max(4, *map(len, texts)) * 0.9
            self.write(middle, y + h * 0.56, text, min(24, fits), color, ha="center", va="center", weight="bold")
            if len(found) > 1 or name != panel["title"]:
                self.write(middle, y + h * 0.84, name, 8.5, FAINT, ha="center", va="center")

    def gauge(self, panel, x, y, w, h):
        defaults = panel["fieldConfig"]["defaults"]
        found = list(named_series(panel))
        for i, (name, points) in enumerate(found):
            value = points[-1]["value"]
            color = color_at(defaults["thresholds"]["steps"], value)
            middle, floor, radius = x + w * (i + 0.5) / len(found), y + h * 0.76, h * 0.44
            share = max(0, min(1, value / defaults["max"]))
            for start, end, fill in ((0, 1, "#e8eaed"), (0, share, color)):
                self.page.add_patch(Wedge((middle, floor), radius, 180 + 180 * start, 180 + 180 * end, width=13, facecolor=fill))
            self.write(middle, floor - 8, text_of(value, defaults["unit"], defaults.get("decimals")), 16, color,
                       ha="center", va="center", weight="bold")
            if name != panel["title"]:
                self.write(middle, y + h * 0.9, name, 8.5, FAINT, ha="center", va="center")

    def bars(self, panel, x, y, w, h):
        defaults = panel["fieldConfig"]["defaults"]
        found = [(name, points[-1]["value"]) for name, points in named_series(panel)]
        found.sort(key=lambda pair: pair[1], reverse="sort(" not in panel["targets"][0]["expr"])
        most = defaults.get("max") or max((value for _, value in found), default=1) or 1
        top, room = y + 34, min(46, (h - 40) / max(len(found), 1))
        for i, (name, value) in enumerate(found):
            color = color_at(defaults["thresholds"]["steps"], value)
            line, left, right = top + i * room, x + w * 0.36, x + w * 0.80
            self.write(left - 8, line + room / 2, name, 9, ha="right", va="center")
            for share, fill in ((1, "#eceef1"), (max(0, min(1, value / most)), color)):
                self.page.add_patch(Rectangle((left, line + room * 0.2), (right - left) * share, room * 0.6, facecolor=fill))
            self.write(right + 8, line + room / 2, text_of(value, defaults["unit"], defaults.get("decimals")), 9.5, color,
                       va="center", weight="bold")

    def graph(self, panel, x, y, w, h):
        defaults = panel["fieldConfig"]["defaults"]
        custom, unit = defaults["custom"], defaults["unit"]
        overrides = panel["fieldConfig"]["overrides"]
        found = list(named_series(panel))
        below = 16 * max(1, math.ceil(len(found) / (2 if w > 500 else 1))) + 4
        axes = self.axes(x + 66, y + 32, w - 82, h - 32 - 26 - below)
        start, end = self.picture["from"], self.picture["to"]
        colors = self.colors(found, overrides)
        stacked = custom["stacking"]["mode"] == "normal"
        if stacked:
            self.stack(axes, found, colors, start)
        else:
            for (name, points), color in zip(found, colors, strict=True):
                dashed = any(o["matcher"]["id"] == "byRegexp" and re.fullmatch(o["matcher"]["options"], name) or
                             o["matcher"]["options"] == name and any(p["id"] == "custom.lineStyle" for p in o["properties"])
                             for o in overrides)
                at, values = self.broken(points, start)
                axes.plot(at, values, color=color, linewidth=1.5, linestyle=(0, (5, 3)) if dashed else "-")
                if not dashed and len(found) < 4:
                    axes.fill_between(at, values, color=color, alpha=0.08, linewidth=0)
        for step in defaults.get("thresholds", {}).get("steps", []):
            if step["value"] is not None and "thresholdsStyle" in custom:
                axes.axhline(step["value"], color=NAMED[step["color"]], linewidth=1, linestyle=(0, (4, 4)))
        self.scale(axes, defaults, (end - start) / 60)
        if custom.get("axisLabel"):
            axes.set_ylabel(custom["axisLabel"], fontsize=8, color=FAINT)
        self.legend(panel, found, colors, x, y + h - below - 2, w)

    def scale(self, axes, defaults, minutes):
        axes.set_xlim(0, minutes)
        if "scaleDistribution" in defaults["custom"]:
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
            axes.yaxis.set_major_formatter(lambda v, _: duration(v))
        else:
            self.linear(axes, defaults)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(8, integer=True))
        axes.xaxis.set_major_formatter(lambda v, _: f"{v:.0f} min" if v else "")
        axes.tick_params(which="both", labelsize=8, colors=FAINT, length=0)
        axes.grid(color="#edeff2", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_visible(False)

    def linear(self, axes, defaults):
        unit, (low, high) = defaults["unit"], axes.get_ylim()
        if defaults.get("min") is not None:
            low = defaults["min"]
        if high <= low or high < 1e-9:
            high = 1
        high = defaults.get("max", max(high, defaults["custom"].get("axisSoftMax", 0)))
        axes.set_ylim(low, high)
        if unit == "bytes":
            ticks = matplotlib.ticker.MultipleLocator(2 ** math.ceil(math.log2(high / 5)))
        else:
            ticks = matplotlib.ticker.MaxNLocator(5)
        axes.yaxis.set_major_locator(ticks)
        step = ticks.tick_values(low, high)[1] - ticks.tick_values(low, high)[0]
        shown = step * (100 if unit == "percentunit" else 1)
        digits = next((n for n in range(5) if math.isclose(round(shown, n), shown, rel_tol=1e-6)), 5)
        axes.yaxis.set_major_formatter(lambda v, _: text_of(v, unit, digits).replace("$", r"\$"))

    def colors(self, found, overrides):
        fixed = {o["matcher"]["options"]: p["value"]["fixedColor"] for o in overrides for p in o["properties"] if p["id"] == "color"}
        free = iter(PALETTE * 3)
        return [NAMED[fixed[name]] if name in fixed else next(free) for name, _ in found]

    def broken(self, points, start):
        """The points in minutes, with a gap where there were none."""
        at, values, last = [], [], None
        for point in points:
            if last is not None and point["time"] - last > 5:
                at.append((last - start) / 60)
                values.append(math.nan)
            last = point["time"]
            at.append((last - start) / 60)
            values.append(point["value"])
        return at, values

    def stack(self, axes, found, colors, start):
        times = sorted({point["time"] for _, points in found for point in points})
        rows = []
        for _, points in found:
            known = {point["time"]: point["value"] for point in points}
            rows.append([known.get(t, 0) for t in times])
        if times:
            axes.stackplot([(t - start) / 60 for t in times], rows, colors=colors, alpha=0.75, linewidth=0)

    def legend(self, panel, found, colors, x, y, w):
        defaults = panel["fieldConfig"]["defaults"]
        columns = 2 if w > 500 else 1
        width = (w - 24) / columns
        for i, ((name, points), color) in enumerate(zip(found, colors, strict=True)):
            left, line = x + 14 + width * (i % columns), y + 8 + 16 * (i // columns)
            self.page.add_patch(Rectangle((left, line - 2), 14, 4, facecolor=color))
            values = [point["value"] for point in points]
            last, most = (text_of(v, defaults["unit"], defaults.get("decimals")) for v in (values[-1], max(values)))
            self.write(left + 20, line, name, 8.5, va="center")
            self.write(left + width - 12, line, f"last {last}   max {most}", 8, FAINT, va="center", ha="right")

    def save(self, path):
        self.figure.savefig(path, dpi=DPI, facecolor=PAPER)
        plt.close(self.figure)
        with Image.open(path) as drawn:
            drawn.convert("RGB").quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams["font.family"] = "DejaVu Sans"
    for picture in json.loads(source.read_text()):
        canvas = Canvas(picture)
        canvas.draw()
        canvas.save(folder / f"dashboard-{picture['name']}.png")


if __name__ == "__main__":
    main()
