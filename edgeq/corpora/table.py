"""Tables of clips: CSV with a header, read strictly."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import InputError


@dataclass(frozen=True)
class Row:
    """One line of a table. where: the table and the line, for messages."""

    where: str
    cells: dict[str, str]

    def get(self, *columns: str) -> str:
        """The first of these columns that the table has, stripped; empty where it has none of them."""
        return next((self.cells[column] for column in columns if column in self.cells), "")

    def need(self, *columns: str) -> tuple[str, ...]:
        """These columns' cells. Raises InputError where one is empty."""
        found = tuple(self.get(column) for column in columns)
        if not all(found):
            told = ", ".join(f"{column} {cell!r}" for column, cell in zip(columns, found, strict=True))
            raise InputError(f"{self.where}: {told}: expected all of them; fill in or drop the line")
        return found

    def number(self, column: str) -> int | None:
        """A whole number of up to 9 digits, None where the cell is empty. Raises InputError where it is another."""
        cell = self.get(column)
        if not cell:
            return None
        if not (cell.isascii() and cell.isdigit() and len(cell) <= 9):
            raise InputError(f"{self.where}: {column} {cell!r:.40}: expected a whole number of up to 9 digits")
        return int(cell)

    def inside(self, folder: Path, name: str) -> Path:
        """The path of `name` below a folder. Raises InputError where it leads out of it."""
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise InputError(f"{self.where}: {name!r} leads out of {folder}; expected a path below it")
        return folder / name


def header(table: Path, delimiter: str = ",") -> tuple[str, ...]:
    """The columns of a table; none where it is no such table."""
    try:
        return tuple(next(lines(table, delimiter), ("", []))[1])
    except InputError:
        return ()


def rows(table: Path, columns: Sequence[str] = (), delimiter: str = ",") -> Iterator[Row]:
    """The lines of a table that has a header, cells stripped.

    columns: those that it must have. Raises InputError naming the table where one is missing, or as `lines` does.
    """
    found = lines(table, delimiter)
    _, names = next(found, ("", []))
    missing = [column for column in columns if column not in names]
    if missing:
        raise InputError(f"{table}: found columns {names}, expected one named {missing[0]}")
    for where, cells in found:
        yield Row(where, dict(zip(names, [*cells, *[""] * (len(names) - len(cells))], strict=False)))


def lines(table: Path, delimiter: str = ",", comment: str = "") -> Iterator[tuple[str, list[str]]]:
    """Where each line of a table is, for messages, and its cells, stripped; empty lines are passed over.

    comment: lines that begin with it are passed over too. Raises InputError naming the table where it cannot be read.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, delimiter=delimiter, skipinitialspace=True)
            for cells in reader:
                if cells and not (comment and cells[0].startswith(comment)):
                    yield f"{table}, line {reader.line_num}", [cell.strip() for cell in cells]
    except OSError as error:
        raise InputError(f"{table}: cannot be read ({error.strerror}); restore it, or check its permissions") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as CSV ({error}); save it as UTF-8 CSV") from error
