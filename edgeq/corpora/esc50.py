"""Corpora in the layout of ESC-50: a table of clips beside a folder of recordings."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from edgeq.corpora.corpus import Clip, Corpus
from edgeq.errors import InputError

_TABLES = ("meta.csv", "meta/esc50.csv")
_FILE = ("file", "filename")
_LICENCE = ("clip_licence", "licence", "license")
_SOURCE = ("clip_source", "source", "src_file")


def metadata_file(folder: Path) -> Path | None:
    """The table of clips (meta.csv or meta/esc50.csv), or None where the folder has none."""
    return next((folder / name for name in _TABLES if (folder / name).is_file()), None)


def read(folder: Path) -> Corpus:
    """Read the corpus in `folder`.

    The table needs a column file (or filename), relative to audio/, and a column category; fold, licence and source
    are read where they are there. Clips keep the order of the table; classes are sorted by name.
    Raises InputError naming the table and line where a column, value or recording is missing or a file comes twice.
    Source: github.com/karolpiczak/ESC-50, README, "Repository content".
    """
    table = metadata_file(folder)
    if table is None:
        raise InputError(f"{folder}: found neither {' nor '.join(_TABLES)}, expected one of them beside audio/")
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            columns = tuple(reader.fieldnames or ())
            file_column = _column(table, columns, _FILE)
            _column(table, columns, ("category",))
            clips = tuple(
                _clip(f"{table}, line {reader.line_num}", folder / "audio", row, file_column) for row in reader
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as CSV ({error}); save it as UTF-8 CSV") from error
    labels = tuple(sorted({label for clip in clips for label in clip.labels}))
    return Corpus(folder.resolve().name, clips, labels)


def _column(table: Path, columns: tuple[str, ...], names: tuple[str, ...]) -> str:
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise InputError(f"{table}: found columns {list(columns)}, expected one named {' or '.join(names)}")
    return found


def _clip(where: str, audio: Path, row: Mapping[str | None, str | None], file_column: str) -> Clip:
    name, label = _cell(row, (file_column,)), _cell(row, ("category",))
    if not name or not label:
        raise InputError(
            f"{where}: {file_column} {name!r}, category {label!r}: expected both; fill in or drop the line"
        )
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{where}: {name!r} leads out of {audio}; expected a path below it")
    path = audio / name
    if not path.is_file():
        raise InputError(f"{where}: {path} is not there; restore the recording or drop the line")
    return Clip(path, (label,), _fold(where, _cell(row, ("fold",))), _cell(row, _LICENCE), _cell(row, _SOURCE))


def _cell(row: Mapping[str | None, str | None], names: tuple[str, ...]) -> str:
    return next((row[name] or "" for name in names if name in row), "").strip()


def _fold(where: str, value: str) -> int | None:
    if not value:
        return None
    if not (value.isascii() and value.isdigit()):
        raise InputError(f"{where}: fold {value!r}: expected a whole number")
    return int(value)
