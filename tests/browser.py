"""A real browser: the machine's own, or the one that npm packages."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
UNPACK = "import('@sparticuz/chromium').then(c => c.default.executablePath()).then(console.log)"


def executable() -> str | None:
    for name in (os.environ.get("CHROMIUM"), "/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    if not shutil.which("node"):
        return None
    unpacked = subprocess.run(["node", "-e", UNPACK], capture_output=True, text=True, check=False)
    return unpacked.stdout.strip() or None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = executable()
    if not path:
        pytest.skip("no browser: install chromium, or @sparticuz/chromium by npm in this folder")
    # Playwright keeps a loop in this thread, which Django takes for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page_in_browser(browser: Browser) -> Iterator[Page]:
    """A French reader's browser window in Paris."""
    context = browser.new_context(locale="fr-FR", timezone_id="Europe/Paris", viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()
