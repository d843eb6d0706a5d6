"""Results of `edgeq bench` as something to share: a page of HTML in one file, Markdown, or JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq import atomic
from edgeq.bench.report import html, markdown, page
from edgeq.errors import InputError

SUFFIXES = ".html", ".md", ".json"


def write(results: Sequence[Mapping[str, Any]], path: Path, verify: Mapping[str, Any] | None = None) -> None:
    """Write what was found of one model or several, on one target or several; the file is whole or not there.

    results: values of `edgeq bench --json`. path: its suffix says the form, one of SUFFIXES. verify: the value of
    `edgeq verify --json`, to be shown too.
    Raises InputError as `check`, and where there is no result or the file cannot be written.
    """
    check(path)
    if not results:
        raise InputError(f"{path}: nothing to report: expected one result at least")
    suffix = path.suffix.lower()
    if suffix == ".json":
        said = {"results": list(results), **({} if verify is None else {"verify": verify})}
        text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    else:
        text = (html if suffix == ".html" else markdown).render(page.build(results, verify))
    try:
        atomic.write_text(path, text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; choose another place for the report") from error


def check(path: Path) -> None:
    """Refuse what cannot be a report's name: to be asked before a long measurement, not after.

    Raises InputError where the suffix is none of SUFFIXES, a folder has that name, nothing can be written there, or
    what writes HTML is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a report's name to end in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a name for the report's file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "no permission to write there" if above.is_dir() else "is no folder"
        raise InputError(f"{path}: {above}: {why}; choose another place for the report")
    if path.suffix.lower() == ".html":
        html.template()
