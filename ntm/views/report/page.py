"""A report on many runs: one page that opens offline, the same in Markdown, and a table."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from ntm.analysis.results import (
    Comparison,
    Group,
    Result,
    Trouble,
    compare,
    effort,
    group,
    traces_of,
    unlike,
)
from ntm.analysis.trace import Trace
from ntm.files import write_file
from ntm.views import paper
from ntm.views.comparison import MANY
from ntm.views.report.pictures import FEW, Picture, pictures, readings, ylabel
from ntm.views.report.tables import columns, record, solved, to_csv
from ntm.views.report.words import Cell, line, markdown, number


class Section(NamedTuple):
    """One task of the report."""

    task: str
    summary: list[str]
    heads: list[tuple[str, str]]  # each column's name, and what it means
    rows: list[list[Cell]]
    runs: list[dict[str, Any]]  # a row of results.csv for each
    pictures: list[Picture]
    paper: list[paper.Reading]
    comparisons: list[tuple[str, str, Comparison]]
    commands: list[tuple[str, list[str]]]  # a model, and how its runs were made


def section(task: str, groups: list[Group], traces: dict[str, Trace]) -> Section:
    """One task's section. ``traces``: an episode of the median seed, by the name of its group."""
    if len(groups) > MANY:
        groups = sorted(groups, key=lambda group: group.standing)
    comparisons, table = _comparisons(groups), columns(groups)
    return Section(
        task=task,
        summary=[*_summaries(groups), *_terms(groups)],
        heads=[(column.name, column.meaning) for column in table],
        rows=[[column.cell(group) for column in table] for group in groups],
        runs=[record(task, g.name, r) for g in groups for r in g.results],
        pictures=pictures(task, groups, traces, comparisons),
        paper=readings(task, groups),
        comparisons=_listed(comparisons, groups),
        commands=[
            (g.name, [r.manifest.get("command", "unknown") for r in g.results]) for g in groups
        ],
    )


def sections(found: Iterable[Result]) -> tuple[list[Section], list[Trouble]]:
    """A section for each task; and the runs that gave no trace, and why."""
    made, troubles = [], []
    for task, groups in group(found).items():
        traces, missing = traces_of(groups)
        troubles += missing
        made.append(section(task, groups, traces))
    return made, troubles


def write(
    out: Path, sections: Sequence[Section], troubles: Sequence[Trouble], versions: str
) -> list[Path]:
    """Writes report.html, report.md, results.csv, and every figure as SVG and PNG."""
    shown: dict[str, str] = {}
    for part in sections:
        for picture in part.pictures:
            shown[picture.name] = _save(picture, out / "figures")
    written = {
        "report.html": _render("report.html.jinja", sections, troubles, versions, shown),
        "report.md": _render("report.md.jinja", sections, troubles, versions, shown),
        "results.csv": to_csv([row for part in sections for row in part.runs]),
    }
    for name, text in written.items():
        write_file(out / name, text)
    return [out / name for name in written]


def _summaries(groups: Sequence[Group]) -> list[str]:
    """A sentence for each model; of many models for the best ones, the table has them all."""
    if len(groups) <= MANY:
        return [*map(_summary, groups)]
    return [*map(_summary, groups[:FEW]), f"{len(groups) - FEW} more are in the table."]


def _summary(group: Group) -> str:
    efforts, seeds = [effort(result) for result in solved(group)], len(group.results)
    text = f"{group.name}: solved on {len(efforts)} of {seeds} seed{'s' * (seeds != 1)}"
    if efforts:
        text += f", after a median of {number(float(np.median(efforts)))} sequences"
    bits = number(float(np.median(group.final_bits)))
    text += f"; best validation {bits} {ylabel([group])}."
    failed = sum(result.manifest["status"] == "failed" for result in group.results)
    text += f" {failed} stopped at a number that is not finite." if failed else ""
    return f"{text} Settings: {group.details}." if group.details else text


def _terms(groups: Sequence[Group]) -> list[str]:
    """The settings in which these groups differ beside their models."""
    found = unlike(groups)
    if not found:
        return []
    each = [f"{key} ({_settings(values)})" for key, values in found.items()]
    return [f"Not trained on the same terms: {'; '.join(each)}."]


def _settings(values: Iterable[Any]) -> str:
    """Values of a setting as a config has them; a range of one number is that number."""
    shown = (v[0] if isinstance(v, tuple) and len(set(v)) == 1 else v for v in values)
    return ", ".join(str(list(v) if isinstance(v, tuple) else v) for v in shown)


#: What the scores of two groups have to share to be compared, or how its keys begin.
_TERMS = ("validation.task.", "validation.episodes", "train.solved_bits")


def _comparisons(groups: Sequence[Group]) -> list[tuple[str, str, Comparison]]:
    """Each pair once: by sequences to solved, or by final bits where neither solved.

    Only pairs whose validation is on the same episodes, with the same threshold.
    """
    found = []
    for i, a in enumerate(groups):
        for b in groups[i + 1 :]:
            if any(key.startswith(_TERMS) for key in unlike([a, b])):
                continue
            if any(map(solved, (a, b))):
                scores = [[effort(r) for r in g.results] for g in (a, b)]
            else:
                scores = [a.final_bits, b.final_bits]
            if (comparison := compare(*scores)) is not None:
                found.append((a.name, b.name, comparison))
    return found


def _listed(
    comparisons: list[tuple[str, str, Comparison]], groups: Sequence[Group]
) -> list[tuple[str, str, Comparison]]:
    """Those with a line of their own: of many models, the best one's with every other."""
    if len(groups) <= MANY:
        return comparisons
    best = min(groups, key=lambda group: group.standing).name
    return [pair for pair in comparisons if best in pair[:2]]


def _save(picture: Picture, folder: Path) -> str:
    """Saves a figure as SVG and PNG; returns the SVG as a data address."""
    figure = picture.figure
    drawn = figure.image("svg", metadata={"Date": None})  # the same bytes every time
    write_file(folder / f"{picture.name}.svg", drawn)
    write_file(folder / f"{picture.name}.png", figure.image(dpi=130))
    return "data:image/svg+xml;base64," + base64.b64encode(drawn).decode()


def _render(
    template: str, sections: Sequence[Section], troubles: Sequence[Trouble], versions: str,
    shown: dict[str, str],
) -> str:  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ntm.views"),
        autoescape=template.endswith(".html.jinja"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    environment.filters["markdown"] = markdown
    environment.filters["line"] = line
    return environment.get_template(template).render(
        sections=sections, troubles=troubles, versions=versions, shown=shown, today=date.today()
    )
