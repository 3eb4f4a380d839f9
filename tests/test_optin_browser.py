"""The opt-in pages in a real browser: every state free of what axe finds, without scripts, and in another's frame."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from newsletters.models import Issue, Series, Subscriber
from optin import answering, guard
from optin.models import OptInPage, Request
from tests.visitor import confirm_path

NARROWEST = 320


@pytest.fixture
def site(live_server: LiveServer, page: OptInPage, settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """An opt-in page with everything on it; the hand of a test is quicker than a person's."""
    settings.BASE_URL = live_server.url
    monkeypatch.setattr(guard, "QUICKEST", -guard.QUICKEST)
    sample = Issue.objects.create(
        publication=page.publication, subject="La chaise vide", body="Bonjour.", state="queued", public_id="chaise"
    )
    Series.objects.create(publication=page.publication, name="Accueil", slug="a", welcome=True).append(sample)
    OptInPage.objects.update(
        sample=sample, bullets="Une idée : une seule.", quote="Debout.", about="Maud.", questions="## Trop ?\n\nNon."
    )
    return live_server.url


def flaws(page: Page) -> list[str]:
    """Return what axe finds, and whether the page scrolls sideways on the narrowest phone."""
    found = [violation["id"] for violation in Axe().run(page).response["violations"]]
    size = page.viewport_size or {"width": 1280, "height": 900}
    page.set_viewport_size({"width": NARROWEST, "height": 640})
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("scrolls sideways")
    page.set_viewport_size({"width": size["width"], "height": size["height"]})
    return found


@pytest.mark.sqlite
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_visitor_comes_in(site: str, browser: Browser, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme, timezone_id="Asia/Tokyo", locale="fr-FR")
    page = context.new_page()
    states: dict[str, list[str]] = {}

    def look(state: str) -> None:
        states[state] = flaws(page)

    page.goto(f"{site}/")
    look("page")
    page.fill("#email", "lucas@gmial.com")
    page.click("#join button")
    expect(page.locator(".summary")).to_be_focused()
    look("errors")
    page.fill("#email", "lucas@example.com")
    page.click("#join button")
    page.wait_for_url("**/thanks/**")
    expect(page.locator("button[name=again]")).to_be_disabled()
    look("thanks")
    page.fill("#code", "12")
    page.press("#code", "Enter")
    look("wrong code")
    answering.answer(timezone.now())
    page.goto(site + confirm_path())
    look("confirm")
    page.click("[name=confirm]")
    page.wait_for_selector(".list.when")
    look("confirmed")
    Subscriber.objects.get().leave(timezone.now())
    page.goto(site + confirm_path())
    look("used")
    page.goto(f"{site}/confirm/broken/")
    look("broken")
    page.goto(f"{site}/nothing/here/")
    look("404")

    assert not {state: found for state, found in states.items() if found}
    assert Request.objects.get().zone == "Asia/Tokyo"
    assert context.cookies() == []
    context.close()


@pytest.mark.sqlite
def test_it_works_without_scripts(site: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()

    page.goto(f"{site}/pas/")
    page.fill("#email", "lucas@example.com")
    page.click("#join button")
    page.wait_for_url("**/thanks/**")
    page.click("button[name=again]")
    expect(page.get_by_role("alert")).to_be_visible()
    page.goto(site + confirm_path())
    page.click("[name=confirm]")
    page.wait_for_selector(".list.when")

    assert Subscriber.objects.get().zone == "Europe/Paris"
    context.close()


@pytest.fixture
def blog(site: str) -> Iterator[str]:
    """Another site, which frames the bare form and the whole page."""
    frames = "".join(f'<iframe src="{site}/pas/join/accueil/{path}"></iframe>' for path in ("embed/", ""))

    class Blog(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(frames.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Blog) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.sqlite
def test_it_works_in_another_sites_frame(site: str, blog: str, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()

    page.goto(blog)
    bare, whole = page.frame_locator("iframe >> nth=0"), page.frame_locator("iframe >> nth=1")
    expect(bare.locator("#email")).to_be_visible()
    expect(whole.locator("#email")).to_have_count(0)
    bare.locator("#email").fill("lucas@example.com")
    bare.locator("#join button").click()
    page.wait_for_url(f"{site}/**/thanks/**")

    assert Request.objects.get().address == "lucas@example.com"
    assert context.cookies() == []
    context.close()
