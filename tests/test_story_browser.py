"""The whole story in a real browser: opt in, find the mail in the letterbox, confirm, read day one, leave.

SCREENSHOTS names a folder that keeps a picture of every step.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core.management import call_command
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

import newsletters.tasks
import optin.tasks
from newsletters import clock
from newsletters.models import Subscriber
from optin import guard

Look = Callable[[Page, str], None]


@pytest.fixture
def site(live_server: LiveServer, settings: object, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sample publication, as a newcomer's first start makes it."""
    settings.BASE_URL = live_server.url  # type: ignore[attr-defined]
    monkeypatch.setattr(guard, "QUICKEST", -guard.QUICKEST)
    call_command("demo", verbosity=0)
    Subscriber.objects.all().delete()
    return live_server.url


@pytest.fixture
def look() -> Iterator[Look]:
    """See that a page is accessible; keep its picture where SCREENSHOTS says so."""
    flaws: dict[str, list[str]] = {}

    def see(page: Page, name: str) -> None:
        flaws[name] = [violation["id"] for violation in Axe().run(page).response["violations"]]
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    yield see
    assert {name: found for name, found in flaws.items() if found} == {}


def test_the_story_in_a_browser(site: str, browser: Browser, look: Look) -> None:
    context = browser.new_context(
        locale="fr-FR", timezone_id="America/New_York", viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()

    page.goto(f"{site}/lepasdujour/")
    look(page, "opt-in")
    page.fill("#email", "lucas@example.com")
    page.fill("#first_name", "Lucas")
    page.click("#join button")
    page.wait_for_url("**/thanks/**")
    look(page, "thanks")
    optin.tasks.answer()
    newsletters.tasks.drain()

    page.goto(f"{site}/letterbox/")
    look(page, "letterbox")
    page.get_by_role("link", name="Confirmez votre adresse").click()
    look(page, "letterbox-confirmation")
    with context.expect_page() as opened:
        page.frame_locator("iframe").get_by_role("link", name="Confirmer mon inscription").click()
    confirm = opened.value
    confirm.wait_for_load_state()
    look(confirm, "confirm")
    assert Subscriber.objects.get().status == "pending"
    confirm.click("button[name=confirm]")
    confirm.wait_for_selector(".list.when")
    look(confirm, "confirmed")
    newsletters.tasks.drain()

    lucas = Subscriber.objects.get()
    assert (lucas.status, lucas.zone, lucas.first_name) == ("active", "America/New_York", "Lucas")
    _, at = clock.next_promise(timezone.now(), lucas.publication.hour, "1234567", lucas.zone)
    call_command("send_due", at=(at + timedelta(minutes=1)).isoformat(), verbosity=0)
    page.goto(f"{site}/letterbox/")
    look(page, "letterbox-day-one")
    page.get_by_role("link", name="Par où commencer quand tout presse").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_text("Bonjour Lucas,")).to_be_visible()
    look(page, "day-one")
    with context.expect_page() as opened:
        frame.get_by_role("link", name="faire une pause").click()
    reader = opened.value
    reader.wait_for_load_state()
    look(reader, "reader")
    with context.expect_page() as opened:
        frame.get_by_role("link", name="Me désinscrire").click()
    leave = opened.value
    leave.wait_for_load_state()
    look(leave, "leave")
    assert Subscriber.objects.get().status == "active"
    leave.click("button[name=leave]")
    expect(leave.get_by_role("heading", level=1)).to_have_text("C’est fait.")
    look(leave, "left")

    assert Subscriber.objects.get().status == "unsubscribed"


@pytest.mark.sqlite
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_pages_without_scrolling_sideways(
    site: str, browser: Browser, look: Look, scheme: str
) -> None:
    context = browser.new_context(locale="fr-FR", viewport={"width": 375, "height": 812}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()

    for path in ("lepasdujour/", "lepasdujour/archive/", "lepasdujour/privacy/", "letterbox/"):
        page.goto(f"{site}/{path}")
        look(page, f"phone-{scheme}-{path.strip('/').replace('/', '-')}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
