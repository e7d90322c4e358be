"""A browser and a mesh for each module: the machine's own Chromium, and the page's address."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.addresses import Served, serving
from tests.support.programs import program

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def chromium() -> str:
    """Return where Chromium is."""
    return program("chromium")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Start a browser for the module."""
    async with async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        yield started
        await started.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(chromium: str) -> AsyncIterator[Served]:
    """Run a mesh whose page shows texts and keeps audio."""
    async with serving() as running:
        yield running
