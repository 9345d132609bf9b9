"""The report as a page for people: each section is a question, a picture, a table and what came out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """asked: one sentence. picture: file name beside the page. columns and rows: the table, numbers on the right.
    said: made from the figures, a line each. notes: how it was measured.
    """

    title: str
    asked: str
    picture: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    said: tuple[str, ...]
    notes: tuple[str, ...] = ()


def markdown(title: str, intro: tuple[str, ...], sections: tuple[Section, ...]) -> str:
    """The whole page."""
    parts = [f"# {title}", *intro]
    for section in sections:
        parts += [f"## {section.title}", section.asked, "\n".join(f"- **{line}**" for line in section.said)]
        parts += [f"![{section.title}]({section.picture})" if section.picture else "", _table(section), *section.notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(section: Section) -> str:
    if not section.rows:
        return ""
    head = (section.columns, ("---", *("---:" for _ in section.columns[1:])))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (*head, *section.rows))
