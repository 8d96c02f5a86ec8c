"""Draws a trace of `systole run --trace` as ui.perfetto.dev lays it out: a row a track, counters as areas, some arrows.

    python draw_trace.py RUN.pftrace OUT.png [--window FROM..TO] [--arrows FROM..TO]

Times are microseconds: of what is drawn, and of the beginnings of the instructions that arrows are drawn to, none
without. Needs `pip install perfetto==0.59.1 matplotlib==3.11.2`.
"""

import argparse
import math

import matplotlib
from matplotlib import patches, patheffects, pyplot, textpath

import pftrace

# Of each cause, the colour that it has in the charts of a report; layers take turns.
CAUSES = {
    "array_streaming": "#009e73", "fill_drain": "#f0e442", "weight_load": "#e69f00", "buffer_bank": "#d55e00",
    "vector": "#cc79a7", "issue": "#cdcdcd", "fence": "#8c8c8c", "move": "#bcdef5", "host": "#282828",
    "memory_bandwidth": "#0072b2", "memory_latency": "#56b4e9", "queue full": "#b0a8a0",
}  # fmt: skip
LAYERS = ["#5b6fb8", "#c77b4a", "#9a6a9e", "#8a8f3f", "#b85c6e", "#4f9a94"]
INK, GREY, GRID, PANEL = "#1a1a1a", "#606060", "#e2e2e2", "#f5f6f8"
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 10.0, 1.6, 0.2, 0.62, 0.42
# Heights of rows, in inches, and what is left between groups.
SLICES, CAUSE, AREA, GAP = 0.28, 0.14, 0.45, 0.07
FONT = 8.5


def rows(trace):
    """Paths of the tracks without their roots', siblings in their order and children after their parents."""
    order = {}
    for track in trace.tracks.values():
        order.setdefault(track.path, (*order.get(track.path[:-1], ()), track.rank))
    return [path[1:] for path in sorted(order, key=order.get) if len(path) > 1]


def lanes(pieces):
    """Slices that overlap, one below the other: pairs of a lane and a slice, and how many lanes there are."""
    until, placed = [], []
    for piece in pieces:
        lane = next((lane for lane, end in enumerate(until) if end <= piece.start), len(until))
        until[lane : lane + 1] = [piece.end]
        placed.append((lane, piece))
    return placed, max(1, len(until))


class Picture:
    def __init__(self, trace, begin, end):
        self.trace, self.begin, self.end = trace, begin, end
        self.scale = (WIDTH - LEFT - RIGHT) / (end - begin)  # inches a nanosecond
        inside = {path: [p for p in row if p.end > begin and p.start < end] for path, row in trace.rows().items()}
        named = dict.fromkeys(p.name for path, row in inside.items() if path[-1] in ("layers", "instructions") for p in row)
        self.colours = {name: LAYERS[index % len(LAYERS)] for index, name in enumerate(named)}
        self.inside = inside
        self.shown = [p for p in rows(trace) if inside.get(p) or len(set(trace.counters.get(p, []))) > 1]
        self.tops, y = {}, TOP
        for index, path in enumerate(self.shown):
            if index and path[0] != self.shown[index - 1][0]:
                y += GAP
            self.tops[path] = y
            y += self.height(path) + 0.025
        self.bottom = y
        self.figure = pyplot.figure(figsize=(WIDTH, y + BOTTOM), dpi=150)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(y + BOTTOM, 0))
        self.axes.axis("off")

    def height(self, path):
        return AREA if path in self.trace.counters else SLICES if path[-1] in ("layers", "instructions") else CAUSE

    def x(self, time):
        return LEFT + (min(max(time, self.begin), self.end) - self.begin) * self.scale

    def text(self, x, y, text, size=FONT, **options):
        self.axes.text(x, y, text, fontsize=size, **{"color": INK, "va": "center_baseline", **options})

    def box(self, left, top, width, height, colour, **options):
        self.axes.add_patch(patches.Rectangle((left, top), width, height, facecolor=colour, **{"linewidth": 0, **options}))

    def slices(self, path):
        is_cause = path[-1] in CAUSES
        placed, count = ([(0, piece) for piece in self.inside[path]], 1) if is_cause else lanes(self.inside[path])
        height = self.height(path) / count
        for lane, piece in placed:
            left, width = self.x(piece.start), self.x(piece.end) - self.x(piece.start)
            colour = CAUSES[path[-1]] if is_cause else self.colours.get(piece.name, GREY)
            top = self.tops[path] + lane * height
            # Slices of about a pixel are not moved to whole ones: many of them make an even tone.
            wide = width > 0.03
            self.box(left, top, max(width, 0.004), height * 0.94, colour, linewidth=0.5 * wide, edgecolor="white", snap=wide)
            if not is_cause and count == 1 and height >= SLICES:
                for label in (piece.name, piece.name.rsplit(".", 1)[-1]):
                    if textpath.TextPath((0, 0), label, size=FONT).get_extents().width / 72 < width - 0.08:
                        self.text(left + width / 2, top + height / 2, label, color="white", ha="center")
                        break

    def area(self, path):
        points, unit = self.trace.counters[path], next(t.unit for t in self.trace.tracks.values() if t.path[1:] == path)
        times = [self.begin, *(time for time, _ in points if self.begin < time < self.end), self.end]
        values = [pftrace.value_at(points, time) for time in times[:-1]]
        most = max(values) or 1
        top, height = self.tops[path] + 0.03, AREA - 0.03
        self.axes.fill_between(
            [self.x(time) for time in times], top + height,
            [top + height * (1 - value / most) for value in (*values, values[-1])],
            step="post", color="#8fa3c4", linewidth=0,
        )  # fmt: skip
        self.axes.plot([LEFT, WIDTH - RIGHT], [top + height] * 2, color=GRID, linewidth=0.8)
        label = f"{most / 1024:.0f} KiB" if unit == "B" else f"{most:.1f} {unit}"
        self.text(LEFT - 0.07, top + 0.05, label, size=8, color=GREY, ha="right")

    def names(self):
        """Names of the tracks, those of the groups above them bold at their first row."""
        group = None
        for path in self.shown:
            top, height = self.tops[path], self.height(path)
            middle = top + height / 2
            if path[0] != group:
                group = path[0]
                last = [self.tops[p] + self.height(p) for p in self.shown if p[0] == group][-1]
                self.box(0, top, LEFT - 0.02, last - top, PANEL)
                self.text(0.1, min(middle, top + SLICES / 2), group, weight="bold")
            if len(path) > 1 and path[-1] != "instructions":
                self.text(LEFT - 0.07, middle + (0.1 if path in self.trace.counters else 0), path[-1].replace("_", " "), size=8, color=GREY, ha="right")

    def times(self):
        span = (self.end - self.begin) / 1000
        step = next(s for power in range(-3, 7) for s in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if span / s <= 10)
        tick = math.ceil(self.begin / (step * 1000)) * step
        while tick * 1000 <= self.end:
            x = self.x(tick * 1000)
            self.axes.plot([x, x], [TOP - 0.05, self.bottom], color=GRID, linewidth=0.7, zorder=0)
            self.text(x, self.bottom + 0.1, f"{tick + 0:g}", size=8, color=GREY, ha="center")
            tick += step
        self.text((LEFT + WIDTH - RIGHT) / 2, self.bottom + 0.27, "time in us", size=8, color=GREY, ha="center")

    def arrows(self, begin, end):
        """Arrows to instructions that begin in a stretch of time, and how many these are."""
        middles = {}
        for path in self.shown:
            if path[-1] == "instructions":
                placed, count = lanes(self.inside[path])
                middles.update((id(piece), self.tops[path] + SLICES * (lane + 0.47) / count) for lane, piece in placed)
        drawn = 0
        for source, sink in self.trace.arrows:
            if begin <= sink.start < end and id(source) in middles and id(sink) in middles and source.end > self.begin:
                drawn += 1
                arrow = patches.FancyArrowPatch(
                    (self.x(source.end), middles[id(source)]), (self.x(sink.start), middles[id(sink)]),
                    arrowstyle="-|>,head_length=3,head_width=1.5", connectionstyle="arc3,rad=-0.15", shrinkA=0, shrinkB=0,
                    linewidth=0.9, color=INK, zorder=5,
                )  # fmt: skip
                arrow.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="white")])
                self.axes.add_patch(arrow)
        return drawn

    def draw(self):
        title = next(iter(self.trace.tracks.values())).path[0]
        self.text(0.1, 0.2, title, size=13, weight="bold")
        last = max(piece.end for piece in self.trace.slices)
        part = f"{self.begin / 1000:g} to {self.end / 1000:g} us of {last / 1000:.3g} us"
        self.text(0.1, 0.43, f"{part} · rows are tracks, colours are layers or causes", size=9, color=GREY)
        self.times()
        self.names()
        for path in self.shown:
            if path in self.trace.counters:
                self.area(path)
            else:
                self.slices(path)


def stretch(text):
    begin, end = text.split("..")
    return float(begin) * 1000, float(end) * 1000


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("trace")
    options.add_argument("out")
    options.add_argument("--window", type=stretch)
    options.add_argument("--arrows", type=stretch, default=(0, 0))
    options = options.parse_args()
    matplotlib.rcParams["font.family"] = "DejaVu Sans"
    trace = pftrace.read(options.trace)
    work = [piece for path, row in trace.rows().items() if path[-1] != "layers" for piece in row]
    begin, end = options.window or (min(piece.start for piece in work), max(piece.end for piece in work))
    picture = Picture(trace, begin, end)
    picture.draw()
    drawn = picture.arrows(*options.arrows)
    picture.figure.savefig(options.out, metadata={"Software": None}, pil_kwargs={"optimize": True})
    print(f"{options.out}: {len(picture.shown)} rows, {drawn} arrows")


if __name__ == "__main__":
    main()
