"""A tiny picture: rectangles, lines and texts, written as SVG, or as PNG through matplotlib."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FONT = "ui-sans-serif, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Rectangle:
    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = "none"
    radius: float = 0.0
    tip: str = ""


@dataclass(frozen=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    content: str
    size: float = 13.0
    fill: str = "#1f2933"
    anchor: str = "start"  # start, middle, end
    bold: bool = False


@dataclass
class Drawing:
    """Shapes on a white page of ``width`` x ``height`` points, y downwards."""

    width: float
    height: float
    title: str
    shapes: list[Rectangle | Line | Text] = field(default_factory=list)

    def add(self, *shapes: Rectangle | Line | Text) -> None:
        self.shapes.extend(shapes)

    def svg(self) -> str:
        """The picture as a self-contained SVG document."""
        size = f'width="{self.width:g}" height="{self.height:g}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="{escape(FONT)}">',
            f"<title>{escape(self.title)}</title>",
            f'<rect {size} fill="#ffffff"/>',
            *(_svg(shape) for shape in self.shapes),
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    def png(self, path: Path) -> bool:
        """Write a PNG when matplotlib (extra ``plot``) is installed; say whether it was."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            return False
        figure = Figure(figsize=(self.width / 72, self.height / 72), dpi=144, facecolor="#ffffff")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        axes.axis("off")
        for order, shape in enumerate(self.shapes):
            _paint(axes, shape, order)
        figure.savefig(path)
        return True


def _svg(shape: Rectangle | Line | Text) -> str:
    if isinstance(shape, Rectangle):
        box = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
        style = f'rx="{shape.radius:g}" fill="{shape.fill}" stroke="{shape.stroke}"'
        return f"<rect {box} {style}>{tip}</rect>"
    if isinstance(shape, Line):
        dash = ' stroke-dasharray="4 3"' if shape.dashed else ""
        ends = f'x1="{shape.x1:g}" y1="{shape.y1:g}" x2="{shape.x2:g}" y2="{shape.y2:g}"'
        return f'<line {ends} stroke="{shape.stroke}" stroke-width="{shape.width:g}"{dash}/>'
    weight = ' font-weight="600"' if shape.bold else ""
    return (
        f'<text x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:g}" fill="{shape.fill}" '
        f'text-anchor="{shape.anchor}"{weight}>{escape(shape.content)}</text>'
    )


def _paint(axes: object, shape: Rectangle | Line | Text, order: int) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import FancyBboxPatch
    from matplotlib.patches import Rectangle as Patch

    assert isinstance(axes, Axes)
    if isinstance(shape, Rectangle):
        place, style = (shape.x, shape.y), {"fc": shape.fill, "ec": shape.stroke, "lw": 0.7}
        if shape.radius:
            inset = min(shape.radius, shape.width / 2, shape.height / 2)
            box = FancyBboxPatch(
                (shape.x + inset, shape.y + inset),
                shape.width - 2 * inset,
                shape.height - 2 * inset,
                boxstyle=f"round,pad={inset}",
                zorder=order,
                **style,
            )
            axes.add_patch(box)
        else:
            axes.add_patch(Patch(place, shape.width, shape.height, zorder=order, **style))
    elif isinstance(shape, Line):
        dash = (0, (4, 3)) if shape.dashed else "-"
        axes.plot(
            [shape.x1, shape.x2],
            [shape.y1, shape.y2],
            color=shape.stroke,
            lw=shape.width,
            ls=dash,
            zorder=order,
        )
    else:
        axes.text(
            shape.x,
            shape.y,
            shape.content,
            fontsize=shape.size * 0.96,
            color=shape.fill,
            ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor],
            va="baseline",
            weight="bold" if shape.bold else "normal",
            zorder=order,
        )
