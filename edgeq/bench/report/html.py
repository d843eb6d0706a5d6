"""A report as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.bench.report.page import KINDS, Page
from edgeq.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template


def render(page: Page) -> str:
    """The page's text. Raises InputError as `template`."""
    return template().render(page=page, kinds=KINDS)


def template() -> Template:
    """report.html beside this file; whatever it is given is escaped. Raises InputError without the extra `report`."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise InputError("an HTML report needs jinja2; run: pip install 'edgeq[report]', or choose .md") from error
    from edgeq.bench.report import chart

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["chart"] = chart
    return environment.get_template("report.html")
