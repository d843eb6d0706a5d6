"""The commands: one short function each, a thin call of the library; heavy imports wait inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """The option --json, which every command has."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout, nothing else.")(command)


def present(value: Any, view: str, as_json: bool) -> None:
    """Print a result: as one JSON value, or through the view of that name in `show`."""
    if as_json:
        click.echo(json.dumps(value, allow_nan=False))
        return
    from edgeq import show

    getattr(show, view)(value)
