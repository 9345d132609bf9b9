"""Label tables: CSV, or the first sheet of an XLSX file, by the names of their columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from training.data.corpus import need_file
from training.data.pictures import DataError


def read_columns(path: Path, columns: Sequence[str], what: str) -> list[tuple[str, ...]]:
    """The named columns of every row that is not empty, as text without surrounding spaces.

    Names are compared without spaces and case, as releases write them in several ways. Raises DataError naming the
    file and the columns that it lacks.
    """
    need_file(path, what)
    lines = _xlsx(path) if path.suffix.lower() == ".xlsx" else _csv(path)
    header = [name.strip().lower() for name in next(lines, [])]
    missing = [name for name in columns if name.lower() not in header]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(filter(None, header)) or 'none'})"
        )
    places = [header.index(name.lower()) for name in columns]
    rows = []
    for number, line in enumerate(lines, start=2):
        if not any(cell.strip() for cell in line):
            continue
        if max(places) >= len(line):
            raise DataError(f"{path}, line {number}: {len(line)} columns, the header has {len(header)}")
        rows.append(tuple(line[place].strip() for place in places))
    return rows


def _csv(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.reader(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file") from error


def _xlsx(path: Path) -> Iterator[list[str]]:
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, BadZipFile, KeyError, OSError, ValueError) as error:
        raise DataError(f"{path} is no XLSX file") from error
    try:
        for row in book.worksheets[0].iter_rows(values_only=True):
            yield ["" if cell is None else str(cell) for cell in row]
    finally:
        book.close()
