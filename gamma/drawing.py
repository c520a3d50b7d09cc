"""A small picture: rectangles, lines and texts as SVG, light and dark, or as PNG by matplotlib."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from gamma.errors import UsageError
from gamma.frozen import Frozen

FONT = "ui-sans-serif, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

# Name -> the colour on a light and on a dark page; other colours are what they are on both.
PALETTE = {
    "page": ("#ffffff", "#0d1117"),
    "ink": ("#1f2933", "#e6edf3"),
    "grey": ("#6b7785", "#9aa4b0"),
    "faint": ("#e4e7eb", "#2b323b"),
    "blue": ("#1f6feb", "#4f93f5"),
    "orange": ("#d9730d", "#e88b34"),
    "green": ("#2e9e6b", "#3fb37f"),
    "red": ("#d64545", "#e06666"),
    "open": ("#a7afba", "#6b7480"),
    "pale": ("#a9c8f5", "#274a78"),
}


class Rectangle(Frozen, eq=True):
    """A filled box; ``tip`` is shown when the pointer rests on it. ``opacity``: of the filling."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = "none"
    radius: float = 0.0
    tip: str = ""
    opacity: float = 1.0


class Area(Frozen, eq=True):
    """A filled polygon through ``points``, (x, y) each."""

    points: tuple[tuple[float, float], ...]
    fill: str
    opacity: float = 1.0


class Line(Frozen, eq=True):
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str
    width: float = 1.0
    dashed: bool = False


class Text(Frozen, eq=True):
    """A line of text; ``anchor`` is start, middle or end. ``turned``: read from below."""

    x: float
    y: float
    content: str
    size: float = 13.0
    fill: str = "ink"
    anchor: str = "start"
    bold: bool = False
    turned: bool = False


Shape = Rectangle | Area | Line | Text


class Drawing(Struct):
    """Shapes on a page of ``width`` x ``height`` points, y downwards; colours as in `PALETTE`."""

    width: float
    height: float
    title: str
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Put shapes on top of what is there."""
        self.shapes.extend(shapes)

    def __repr__(self) -> str:
        """Title and size in one line."""
        return f"Drawing({self.title!r}, {self.width:g} x {self.height:g})"

    def svg(self) -> str:
        """The picture as a self-contained SVG document that follows the reader's colour scheme."""
        size = f'width="{self.width:g}" height="{self.height:g}"'
        light, dark = (
            ";".join(f"--{name}:{pair[k]}" for name, pair in PALETTE.items()) for k in (0, 1)
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="gamma" {size} role="img" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="{escape(FONT)}">',
            f"<title>{escape(self.title)}</title>",
            f"<style>.gamma{{{light}}}",
            f"@media (prefers-color-scheme:dark){{.gamma{{{dark}}}}}</style>",
            f'<rect {size} style="fill:var(--page)"/>',
            *(_svg(shape) for shape in self.shapes),
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    def _repr_svg_(self) -> str:
        return self.svg()

    def save(self, path: str | Path) -> None:
        """Write an .svg, or whatever matplotlib writes by the suffix (.png, .pdf).

        Raises UsageError when matplotlib is needed and not installed, or the path will not do.
        """
        path = Path(path)
        try:
            if path.suffix == ".svg":
                path.write_text(self.svg(), encoding="utf-8")
            else:
                self.figure().savefig(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
        except ValueError as error:  # matplotlib, of a suffix
            raise UsageError(f"{path}: {error}") from None

    def figure(self) -> Any:
        """The picture as a matplotlib Figure, in light colours."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise UsageError(
                "only .svg is written without the package matplotlib: pip install matplotlib"
            ) from None
        size = self.width / 72, self.height / 72
        figure = Figure(figsize=size, dpi=144, facecolor=_light("page"))
        FigureCanvasAgg(figure)
        axes: Any = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        axes.axis("off")
        for order, shape in enumerate(self.shapes):
            _paint(axes, shape, order)
        return figure


def _light(color: str) -> str:
    return PALETTE[color][0] if color in PALETTE else color


def _style(**colors: str) -> str:
    parts = (f"{k}:var(--{v})" if v in PALETTE else f"{k}:{v}" for k, v in colors.items())
    return f'style="{";".join(parts)}"'


def _opacity(share: float) -> str:
    return f' fill-opacity="{share:.3g}"' if share < 1 else ""


def _svg(shape: Shape) -> str:
    if isinstance(shape, Rectangle):
        box = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
        style = _style(fill=shape.fill, stroke=shape.stroke)
        corners = f' rx="{shape.radius:g}"' if shape.radius else ""
        return f"<rect {box}{corners}{_opacity(shape.opacity)} {style}>{tip}</rect>"
    if isinstance(shape, Area):
        points = " ".join(f"{x:g},{y:g}" for x, y in shape.points)
        return f'<polygon points="{points}"{_opacity(shape.opacity)} {_style(fill=shape.fill)}/>'
    if isinstance(shape, Line):
        dash = ' stroke-dasharray="4 3"' if shape.dashed else ""
        ends = f'x1="{shape.x1:g}" y1="{shape.y1:g}" x2="{shape.x2:g}" y2="{shape.y2:g}"'
        return f'<line {ends} stroke-width="{shape.width:g}"{dash} {_style(stroke=shape.stroke)}/>'
    weight = ' font-weight="600"' if shape.bold else ""
    turn = f' transform="rotate(-90 {shape.x:g} {shape.y:g})"' if shape.turned else ""
    return (
        f'<text x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:g}"{weight}{turn} '
        f'text-anchor="{shape.anchor}" {_style(fill=shape.fill)}>{escape(shape.content)}</text>'
    )


def _paint(axes: Any, shape: Shape, order: int) -> None:
    if isinstance(shape, Rectangle):
        _paint_rectangle(axes, shape, order)
    elif isinstance(shape, Area):
        x, y = zip(*shape.points, strict=True)
        axes.fill(x, y, color=_light(shape.fill), alpha=shape.opacity, lw=0, zorder=order)
    elif isinstance(shape, Line):
        axes.plot(
            [shape.x1, shape.x2],
            [shape.y1, shape.y2],
            color=_light(shape.stroke),
            lw=shape.width,
            ls=(0, (4, 3)) if shape.dashed else "-",
            zorder=order,
        )
    else:
        axes.text(
            shape.x,
            shape.y,
            shape.content,
            fontsize=shape.size * 0.96,
            color=_light(shape.fill),
            ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor],
            va="baseline",
            rotation=90 if shape.turned else 0,
            rotation_mode="anchor",
            weight="bold" if shape.bold else "normal",
            zorder=order,
        )


def _paint_rectangle(axes: Any, shape: Rectangle, order: int) -> None:
    from matplotlib.patches import FancyBboxPatch
    from matplotlib.patches import Rectangle as Patch

    style: Any = {"ec": _light(shape.stroke), "lw": 0.7, "zorder": order}
    if shape.fill == "none" or shape.opacity == 1:
        style["fc"] = _light(shape.fill)
    else:
        style["fc"] = _light(shape.fill), shape.opacity
    if not shape.radius:
        axes.add_patch(Patch((shape.x, shape.y), shape.width, shape.height, **style))
        return
    inset = min(shape.radius, shape.width / 2, shape.height / 2)
    axes.add_patch(
        FancyBboxPatch(
            (shape.x + inset, shape.y + inset),
            shape.width - 2 * inset,
            shape.height - 2 * inset,
            boxstyle=f"round,pad={inset}",
            **style,
        )
    )
