"""The live page in a real browser: what a person sees, on a desk and on a phone."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.addresses import GUARD_S, Served

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKUP = '<img src=x onerror="document.title=1"><b>Why</b> is the sky blue?'
LOST = re.compile(
    r"net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|CONNECTION_RESET)"
)
Open = Callable[..., Awaitable[Page]]


class Watched:
    """What a page does that it should not."""

    def __init__(self, page: Page, origin: str) -> None:
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked(request.url, origin))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _asked(self, url: str, origin: str) -> None:
        if not url.startswith(f"{origin}/"):
            self.elsewhere.append(url)


@pytest_asyncio.fixture(loop_scope="module")
async def pages(browser: Browser, served: Served) -> AsyncIterator[Open]:
    """Give a function that opens the page; fail where one complained, or asked another host."""
    watched: list[tuple[Watched, bool]] = []
    async with contextlib.AsyncExitStack() as stack:

        async def opened(where: Served = served, *, may_lose: bool = False, **options: Any) -> Page:
            context = await browser.new_context(**options)
            stack.push_async_callback(context.close)
            context.set_default_timeout(GUARD_S * 1000)
            page = await context.new_page()
            watched.append((Watched(page, where.origin), may_lose))
            await page.goto(where.page)
            await page.wait_for_selector("html[data-ready]")
            return page

        yield opened
    for watch, may_lose in watched:
        assert not watch.elsewhere
        assert not [text for text in watch.complaints if not (may_lose and LOST.search(text))]


async def row_of(page: Page, turn_id: str, outcome: str) -> Any:
    row = page.locator(f'#turns button.{outcome}[aria-label^="turn {turn_id},"]')
    await expect(row).to_be_visible(timeout=GUARD_S * 1000)
    return row


async def open_turn(page: Page, turn_id: str) -> Any:
    await (await row_of(page, turn_id, "completed")).click()
    dialog = page.locator("dialog[open]")
    await expect(dialog.locator(".waterfall")).to_be_visible()
    return dialog


async def test_a_turn_is_seen_while_it_runs_and_when_it_has_ended(served: Served, pages: Open) -> None:
    page = await pages()
    await expect(page.locator("#link")).to_have_text("live")
    async with served.unfinished("running-1"):
        row = await row_of(page, "running-1", "running")
        await expect(row.locator(".elapsed")).to_contain_text("runs for")
    row = await row_of(page, "running-1", "completed")
    assert await row.locator("svg.stack rect").count() > 1
    await expect(page.locator("#turns button.running")).to_have_count(0)


async def test_the_bars_of_a_turn_follow_one_another_and_add_up(served: Served, pages: Open) -> None:
    report = await served.ask("bars-1", "Why is the sea salty?")
    page = await pages()
    dialog = await open_turn(page, "bars-1")
    bars = await dialog.locator(".waterfall rect[data-ms]").evaluate_all(
        "bars => bars.map(bar => [parseFloat(bar.getAttribute('x')), parseFloat(bar.getAttribute('width')), "
        "parseFloat(bar.dataset.ms)])"
    )
    at = 0.0
    for x, width, _ in bars:
        assert x == pytest.approx(at, abs=1e-6)
        at += width
    assert at == pytest.approx(100)
    assert sum(ms for _, _, ms in bars) == pytest.approx(report.ttfa_us / 1000)
    assert await dialog.locator(".chunks tbody tr").count() == len(report.chunks)
    assert report.trace_id in await dialog.inner_text()


async def test_the_keyboard_is_enough(served: Served, pages: Open) -> None:
    await served.ask("keys-1", "Who needs a mouse?")
    page = await pages()
    row = await row_of(page, "keys-1", "completed")
    await row.focus()
    await page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    await expect(dialog).to_be_visible()
    assert "turn=keys-1" in page.url
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(row).to_be_focused()
    await page.locator("#columns").focus()
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#readout")).to_contain_text("turns")
    await expect(page.locator("#columns")).to_be_focused()
    unnamed = await page.locator("button, select, input, [role=img], audio").evaluate_all(
        "all => all.filter(each => !(each.ariaLabel || each.getAttribute('aria-label') || each.innerText "
        "|| each.labels?.[0]?.innerText)).map(each => each.outerHTML)"
    )
    assert unnamed == []


async def test_a_turn_is_heard_again(served: Served, pages: Open) -> None:
    report = await served.ask("heard-1", "How does a bell sound?")
    page = await pages()
    dialog = await open_turn(page, "heard-1")
    audio = dialog.locator("audio")
    await expect(audio).to_have_js_property("readyState", 4)
    assert await audio.evaluate("audio => audio.duration") == pytest.approx(report.audio_us / 1e6, abs=0.01)
    # It is played, from anywhere in it: a part of the file is enough.
    played = await audio.evaluate(
        """async (audio) => {
            audio.muted = true;
            audio.currentTime = audio.duration - 0.2;
            await new Promise((done) => audio.addEventListener("seeked", done, { once: true }));
            const ended = new Promise((done) => audio.addEventListener("ended", done, { once: true }));
            await audio.play();
            await ended;
            return audio.currentTime;
        }"""
    )
    assert played == pytest.approx(report.audio_us / 1e6, abs=0.01)


async def test_a_prompt_is_never_markup(served: Served, pages: Open) -> None:
    await served.ask("markup-1", MARKUP)
    page = await pages()
    dialog = await open_turn(page, "markup-1")
    await expect(dialog.locator("blockquote").first).to_have_text(MARKUP)
    assert await page.locator("dialog img, dialog b").count() == 0
    assert await page.title() == "voicemesh live"


async def test_a_row_keeps_its_focus_and_its_place_while_turns_come(served: Served, pages: Open) -> None:
    await served.ask("stays-1", "Who stays?")
    page = await pages()
    await row_of(page, "stays-1", "completed")
    await page.locator("#pause").click()
    await served.ask("comes-1", "Who comes?")
    await page.locator("#filter").select_option("failed")  # what is shown may be chosen while it stands still
    await expect(page.locator("#none")).to_be_visible()
    await page.locator("#filter").select_option("all")
    await expect(page.locator('#turns button[aria-label^="turn comes-1,"]')).to_have_count(0)
    await page.locator("#pause").click()
    row = await row_of(page, "stays-1", "completed")
    await row.evaluate(
        "row => { row.focus(); row.blurred = 0; row.addEventListener('blur', () => row.blurred++); }"
    )
    await row_of(page, "comes-1", "completed")
    await served.ask("comes-2", "Who else?")
    await row_of(page, "comes-2", "completed")
    await expect(row).to_be_focused()
    assert await row.evaluate("row => row.blurred") == 0


async def test_a_turn_that_is_looked_at_while_it_runs_is_shown_when_it_has_ended(
    served: Served, pages: Open
) -> None:
    page = await pages()
    async with served.unfinished("watched-1"):
        await (await row_of(page, "watched-1", "running")).click()
        await expect(page.locator("dialog[open]")).to_contain_text("shown when it has ended")
    await expect(page.locator("dialog[open] .waterfall")).to_be_visible()


async def test_the_time_is_the_gateways_where_the_browser_has_another(served: Served, pages: Open) -> None:
    page = await pages()
    await page.clock.set_system_time("2020-01-01T00:00:00Z")
    await page.reload()
    async with served.unfinished("clock-1"):
        row = await row_of(page, "clock-1", "running")
        await expect(row.locator(".elapsed")).to_have_text(re.compile(r"runs for \d\d?\.\d s"))
        await expect(row.locator(".elapsed")).not_to_have_text("runs for 0.0 s")


async def test_figures_pools_and_tenants_are_shown(served: Served, pages: Open) -> None:
    await served.ask("tenant-1", "Whose turn is it?", tenant="acme")
    await served.ask("tenant-2", "Whose turn is it?")
    page = await pages()
    await expect(page.locator("#mesh .services li.good")).to_have_count(4)
    await expect(page.locator("#mesh .pool h4").first).to_contain_text("ready")
    await expect(page.locator("#tiles")).to_contain_text("Audio cache")
    await expect(page.locator("#stages tbody tr")).to_have_count(13)
    await row_of(page, "tenant-1", "completed")
    await page.locator("#tenant").select_option(label="acme")
    await expect(page.locator("#turns button")).to_have_count(1)
    await page.locator("#filter").select_option("failed")
    await expect(page.locator("#none")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    served: Served, pages: Open, scheme: str
) -> None:
    await served.ask(f"phone-{scheme}", "Is there room?")
    page = await pages(
        viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    await page.wait_for_selector("#mesh .pool")
    wide = "document.documentElement.scrollWidth"
    assert await page.evaluate(wide) == 360
    dialog = await open_turn(page, f"phone-{scheme}")
    assert await dialog.evaluate("dialog => dialog.scrollWidth") <= 360
    assert await page.evaluate(wide) == 360
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) / 3
    assert (lightness > 200) if scheme == "light" else (lightness < 60)


async def test_the_page_comes_back_with_the_gateway(served: Served, pages: Open) -> None:
    async with served.another() as another:
        await another.ask("before-1", "Are you there?")
        page = await pages(another, may_lose=True)
        await row_of(page, "before-1", "completed")
        status = await another.mesh.processes[another.gateway].stop()  # its streams do not hold it up
        assert status == 0
        await expect(page.locator("#link")).to_have_text("reconnecting")
        await another.mesh.start(another.gateway)
        await expect(page.locator("#link")).to_have_text("live", timeout=GUARD_S * 1000)
        await another.ask("after-1", "And again?")
        await row_of(page, "after-1", "completed")
        # What another process knew is not mixed with what this one knows.
        await expect(page.locator('#turns button[aria-label^="turn before-1,"]')).to_have_count(0)


async def test_a_page_that_is_refused_a_stream_asks_again_and_again(served: Served, pages: Open) -> None:
    page = await pages()
    context = page.context
    refused = asyncio.Event()

    async def refuse(route: Any) -> None:
        refused.set()
        await route.fulfill(status=503, body="{}")

    await context.route("**/live/api/events*", refuse)
    second = await context.new_page()
    await second.goto(served.page)
    await asyncio.wait_for(refused.wait(), GUARD_S)
    await expect(second.locator("#link")).to_have_text("polling", timeout=GUARD_S * 1000)
    await served.ask("polled-1", "Who asks?")
    await row_of(second, "polled-1", "completed")
