"""What a suite came to: solved within t, as text, as a plot, and as one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from gamma.cli import picture
from gamma.cli.figure import blank, saved
from gamma.verification.records import Record

SOLVED = ("verified", "violated")
TIMES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1000.0, 3600.0)
COLOURS = {"verified": "#2e9d5b", "violated": "#d2413a"}
OTHER = "#c98a12"
SHOWN = 8
"""Entries of a witness that the page shows; the records have all."""


def solved_within(results: Sequence[Record]) -> list[str]:
    """How many instances were solved, each within t seconds."""
    spent = [r["seconds"] for r in results if r["verdict"] in SOLVED]
    if not spent:
        return []
    least = max([t for t in TIMES if t <= min(spent)], default=TIMES[0])
    shown = [t for t in TIMES if t >= least]
    last = next((k for k, t in enumerate(shown) if t >= max(spent)), len(shown) - 1)
    rows = []
    for t in shown[: last + 1]:
        count = sum(s <= t for s in spent)
        cells = picture.bar(count / len(results), 40, picture.unicode_output())
        rows.append((f"{t:g} s", str(count), cells))
    return picture.table(rows, ("within", "solved", f"of {len(results)}"), (True, True, False))


def plot(results: Sequence[Record], kind: str) -> bytes:
    """Instances solved within t, as "svg" or "png"; t on a logarithmic axis.

    Raises UsageError when matplotlib is not installed.
    """
    figure, axes = blank(6.4, 3.8)
    for names, colour in ((SOLVED, "#1f6feb"), *(((v,), c) for v, c in COLOURS.items())):
        spent = sorted(max(r["seconds"], 1e-3) for r in results if r["verdict"] in names)
        if spent:
            label = names[0] if len(names) == 1 else "solved"
            counts = range(1, len(spent) + 1)
            axes.step(spent, counts, where="post", color=colour, label=f"{label} ({len(spent)})")
            axes.plot(spent, counts, ".", color=colour, markersize=4)
    axes.axhline(len(results), color="#6b7785", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(0, len(results) * 1.06)
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"instances of {len(results)}")
    axes.set_title("Solved within t", loc="left", fontsize=11)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return saved(figure, kind)


STYLE = """
:root{color-scheme:light dark;--line:#8886;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1rem}
h1{font-size:1.3rem}img{max-width:100%;height:auto;border-radius:6px}
details{border-bottom:1px solid var(--line);padding:.45rem 0}
summary{display:flex;flex-wrap:wrap;gap:.2rem .8rem;cursor:pointer}
summary b{min-width:5.2rem}summary span{overflow-wrap:anywhere}.time{margin-left:auto}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem .9rem;margin:.5rem 0;
background:var(--soft);padding:.5rem .7rem;border-radius:6px}
dt{opacity:.75}dd{margin:0;overflow-wrap:anywhere}pre{overflow-x:auto}
table{border-collapse:collapse}td,th{padding:.1rem .8rem .1rem 0;text-align:right}
td:first-child,th:first-child{text-align:left}
"""


def page(results: Sequence[Record], title: str, rows: Sequence[Sequence[str]]) -> str:
    """One HTML page that needs nothing else; whatever a list or a file says is escaped.

    ``rows``: verdicts with their number and times, the first one the head.
    """
    image = base64.b64encode(plot(results, "png")).decode()
    head, *body = (
        "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(("th", *("td",) * len(rows)), rows, strict=False)
    )
    table = "".join(f"<tr>{row}</tr>" for row in (head, *body))
    instances = "\n".join(map(_instance, results))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><h1>{escape(title)}</h1>
<table>{table}</table>
<p><img alt="Instances solved within t seconds" src="data:image/png;base64,{image}"></p>
<h2>Instances</h2>
{instances}
</body></html>
"""


def _instance(record: Record) -> str:
    verdict = str(record["verdict"])
    colour = COLOURS.get(verdict, OTHER)
    facts = "".join(f"<dt>{escape(n)}</dt><dd>{escape(text)}</dd>" for n, text in _facts(record))
    model, asked = escape(str(record["model"])), escape(str(record["property"]))
    return (
        f'<details><summary><b style="color:{colour}">{escape(verdict)}</b>'
        f"<span>{model}</span> <span>{asked}</span>"
        f'<span class="time">{record["seconds"]:.3f} s</span></summary><dl>{facts}</dl></details>'
    )


def _facts(record: Record) -> list[tuple[str, str]]:
    """Why the verdict is what it is."""
    found = [("why", _why(record))]
    if worst := record.get("worst_margin"):
        found.append(("least margin", f"{worst['lower']} for {worst['label']}"))
    if branched := record.get("branching"):
        found.append(("branching", _branched(branched)))
    if phases := record.get("phases"):
        text = ", ".join(
            f"{p['name']} {p['seconds']:.3f} s" + (f" (excluded {p['proved']})" * bool(p["proved"]))
            for p in phases
        )
        found.append(("phases", text))
    if method := record.get("method"):
        used = ", ".join(method["used"]) or "none needed"
        found.append(("method", f"{method['asked']} asked, used: {used}"))
    return found + [("note", note) for note in record.get("notes", ())]


def _why(record: Record) -> str:
    if "error" in record:
        return str(record["error"])
    counts = record["conjunctions"]
    excluded: str = (
        f"{counts['proved']} of {counts['total']} unsafe sets are excluded by sound bounds"
    )
    if record["verdict"] == "verified":
        return excluded
    if (witness := record.get("counterexample")) is not None:
        x, more = witness["x"][:SHOWN], ", ..." * (len(witness["x"]) > SHOWN)
        shown: str = ", ".join(f"{v:.6g}" for v in x)
        return f"an unsafe output, replayed by {witness['replayed_by']}, at X = ({shown}{more})"
    late = " in time" if record["verdict"] == "timeout" else ""
    return f"{excluded}; for the rest neither proof nor witness{late}"


def _branched(found: dict[str, Any]) -> str:
    what = "boxes" if found["on"] == "input" else "cases"
    text = f"{found['domains']:,} {what}, {found['depth']} splits deep"
    if found["open"]:
        whole = "input volume" if found["on"] == "input" else "tree of cases"
        share = int(found["proved_share"] * 1000) / 10
        text += f"; proved on {share:.1f} % of the {whole}, {found['open']:,} open"
        text += f", worst margin {found['worst_margin']}"
    return text
