"""Chromium without a window, for tests of pages; they skip where it or the package playwright is not installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")


def program() -> str | None:
    """Where the browser is; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def missing() -> list[str]:
    """What is not installed of what it needs."""
    lacking = [] if program() else ["chromium"]
    return lacking if importlib.util.find_spec("playwright") else [*lacking, "playwright"]


@contextmanager
def running(*arguments: str) -> Iterator[Any]:
    """A browser, as playwright's Browser, started with these arguments too; all of its pages end with it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without a sandbox, which root and containers do not give; the pages are our own.
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *arguments]
        browser = playwright.chromium.launch(executable_path=program(), args=options)
        try:
            yield browser
        finally:
            browser.close()


def answer(page: Any, function: str, given: Any = None) -> Any:
    """What a function in JavaScript gives for a value; both go as JSON, since Playwright checks numbers one by one."""
    asked = f"async (given) => JSON.stringify(await ({function})(JSON.parse(given)))"
    return json.loads(page.evaluate(asked, json.dumps(given)))
