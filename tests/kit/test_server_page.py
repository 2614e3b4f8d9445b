"""The page of the server in a real browser: chats side by side, and the batch under them."""

from collections.abc import Iterator

import pytest

from kit.browser import Page, open_page
from kit.live_server import LiveServer, live_server

CHATS = "document.querySelectorAll('.chat').length"
ROWS = "[...document.querySelectorAll('#rows tr')].map((row) => row.innerText)"
NOTES = "[...document.querySelectorAll('.note')].map((note) => note.innerText)"
EVIL = "<img src=x onerror='document.title=666'><b>bold</b>"


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with live_server(max_seq_len=512) as server:
        yield server


@pytest.fixture(scope="module")
def browser(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(live.url, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(live: LiveServer, browser: Page) -> Iterator[Page]:
    """As on the first visit, with two chats in which nothing has been said."""
    browser.evaluate("document.title = 'old'")
    browser.call("Page.reload")
    browser.until("document.title !== 'old' && document.getElementById('status')?.innerText === 'ready'")
    browser.until("document.getElementById('model').innerText")
    yield browser
    live.model.gate.set()
    browser.until("[...document.querySelectorAll('.stop')].every((button) => button.hidden)")
    live.until_empty()


def ask_all(page: Page, text: str) -> None:
    page.evaluate(f"document.getElementById('all-text').value = {text!r}")
    page.evaluate("document.querySelector('#all button').click()")


def test_it_says_what_is_served(page: Page) -> None:
    assert page.evaluate("document.getElementById('model').innerText") == "tiny"
    assert page.evaluate("document.getElementById('memory-name').innerText") == "blocks in use"
    assert page.evaluate("document.getElementById('memory-text').innerText").endswith(" of 256")


def test_it_needs_nothing_from_elsewhere(live: LiveServer, page: Page) -> None:
    loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded
    assert all(name.startswith(live.url) for name in loaded), loaded


def test_chats_come_and_go(page: Page) -> None:
    before = page.evaluate(CHATS)
    page.evaluate("document.getElementById('add').click()")
    assert page.evaluate(CHATS) == before + 1
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA", "one can write at once"
    page.evaluate("[...document.querySelectorAll('.remove')].pop().click()")
    assert page.evaluate(CHATS) == before


def test_all_are_asked_at_once_and_share_the_batch(live: LiveServer, page: Page) -> None:
    live.model.gate.clear()
    ask_all(page, "Tell me")
    live.until(lambda: live.thread.num_waiting + len(live.engine.running) >= 2, "both are asked")
    live.model.gate.set()
    rows = page.until(f"(() => {{ const rows = {ROWS}; return rows.length >= 2 && rows; }})()")
    assert all("decoding" in row or "prefilling" in row for row in rows), rows
    page.until(f"{NOTES}.filter((note) => note.includes('tokens in')).length >= 2")
    answers = page.evaluate("[...document.querySelectorAll('.assistant')].map((answer) => answer.textContent.length)")
    assert all(answers), "each chat has its answer"
    page.until("document.querySelectorAll('#rows tr').length === 0")
    assert page.evaluate("document.getElementById('running').innerText") == "0"


def test_a_row_says_which_chat_it_belongs_to(page: Page) -> None:
    page.evaluate("document.querySelectorAll('.max-tokens').forEach((input) => { input.value = 400; })")
    ask_all(page, "Tell me more")
    page.until(f"{ROWS}.some((row) => row.includes('chat 1')) && {ROWS}.some((row) => row.includes('chat 2'))")


def test_enter_sends_and_what_is_said_is_text(page: Page) -> None:
    page.evaluate("document.querySelector('.chat textarea').focus()")
    page.type(EVIL)
    page.press("Enter")
    page.until(f"[...document.querySelectorAll('.user')].some((line) => line.textContent === {EVIL!r})")
    page.until(f"{NOTES}.length")
    assert page.evaluate("document.querySelectorAll('.log img, .log b').length") == 0, "no markup is made of anybody's words"
    assert page.evaluate("document.title") == "tiny-llm"


def test_stop_ends_the_answer_in_the_engine_too(live: LiveServer, page: Page) -> None:
    live.model.gate.clear()
    page.evaluate("document.querySelector('.chat textarea').value = 'Stop me'")
    page.evaluate("document.querySelector('.chat .send').click()")
    live.until(lambda: live.engine.has_work, "it is asked")
    page.evaluate("document.querySelector('.chat .stop').click()")
    page.until(f"{NOTES}.includes('stopped')")
    live.model.gate.set()
    live.until_empty()


def test_an_error_is_shown_in_its_chat(page: Page) -> None:
    page.evaluate("document.querySelector('.chat .temperature').value = 9")
    page.evaluate("document.querySelector('.chat textarea').value = 'Too hot'")
    page.evaluate("document.querySelector('.chat form').noValidate = true")
    page.evaluate("document.querySelector('.chat .send').click()")
    page.until(f"{NOTES}.some((note) => note.includes('temperature'))")


@pytest.mark.parametrize("width", [360, 1400])
def test_it_fits_phones_and_desks(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself need not be scrolled sideways"
    side_by_side = page.evaluate("new Set([...document.querySelectorAll('.chat')].map((chat) => chat.offsetTop)).size === 1")
    assert side_by_side == (width > 500), "chats stand side by side where there is room"


def test_it_is_light_or_dark_as_the_reader_likes(page: Page) -> None:
    shades = []
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert shades[0] != shades[1]


def test_everything_has_a_name_and_is_reached_by_keys(page: Page) -> None:
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea')].filter((one) =>"
        " !(one.innerText || one.getAttribute('aria-label') || one.labels?.length)).map((one) => one.outerHTML)"
    )
    assert nameless == []
    page.evaluate("document.getElementById('all-text').focus()")
    page.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Ask all at once"


def test_it_asks_for_the_key_where_one_is_needed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with live_server(api_key="sk-page") as live, open_page(live.url, tmp_path_factory.mktemp("profile")) as page:
        page.until("!document.getElementById('key-field').hidden")
        page.evaluate("document.getElementById('key').value = 'sk-page'")
        page.evaluate("document.getElementById('key').dispatchEvent(new Event('change'))")
        page.until("document.getElementById('model').innerText === 'tiny'")
        assert page.evaluate("document.getElementById('key-field').hidden")


def test_it_says_when_the_server_is_gone(tmp_path_factory: pytest.TempPathFactory) -> None:
    with live_server() as live, open_page(live.url, tmp_path_factory.mktemp("profile")) as page:
        page.until("document.getElementById('status').innerText === 'ready'")
        live.thread.stop()
        page.until("document.getElementById('status').classList.contains('bad')")
