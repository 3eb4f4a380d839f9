"""The desk in a real browser: each state of its first room, both languages, light and dark, phone and desktop."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from newsletters import composing, halt
from newsletters.bounces import breaker, words
from newsletters.models import Article, Break, Publication, Rehearsal, Series, Stop
from tests.authors import NOW, THE_23RD, confirmations, daily_queue, end, past, tick, world
from tests.conftest import Reader
from tests.test_optin_browser import flaws
from tests.test_planning import make_issue

PHONE, DESKTOP = (390, 844), (1280, 900)
LOOKS: list[tuple[str, Any]] = [("fr-FR", "light"), ("en-GB", "dark")]
SUNDAY = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
SUBJECTS = [
    "La chaise vide",
    "Le carnet à trois lignes",
    "« Je vais réfléchir » n’est pas un non",
    "Trois phrases avant d’appeler",
    "Le jour où j’ai tout arrêté",
    "Combien vaut une heure de silence ?",
    "Petit tarif, grande fatigue",
    "La page que personne ne lit",
    "Ce qu’un maçon m’a appris des devis",
    "Répondre avant midi",
]
WEEKS = [31, 28, 35, 33, 41, 38, 44, 52, 47, 55, 58, 71]

Stage = Callable[[Publication, Reader], object]


def name_issues(publication: Publication) -> None:
    for issue, subject in zip(publication.issues.filter(state="queued").order_by("pk"), SUBJECTS, strict=False):
        issue.subject, issue.preheader = subject, "La phrase qui fait ranger le devis, et celle qui le fait signer."
        issue.save()


def going(publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 10)
    name_issues(publication)
    past(publication, 300, late=(253,))
    world(reader, 20)
    for place, zone in enumerate(["America/Martinique", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Honolulu"]):
        reader(f"z{place}@example.com", zone=zone, now=NOW - timedelta(days=7))
    tick(SUNDAY)
    end(SUNDAY, {"*": "sent"})
    tick(NOW)
    end(NOW, {f"r{place}@example.com": "sent" for place in range(14)} | {"r19@example.com": "failed:address"})
    end(NOW, {"r18@example.com": "retry"})
    confirmations(publication, WEEKS)
    Rehearsal.objects.create(
        publication=publication, date=date(2026, 11, 24), at=SUNDAY, fingerprint="a", readers=1196, largest=22528
    )
    for name in ("Ce que vaut un « merci »", "Le devis en une page"):
        make_issue(publication, name[:10], state="ready")


def well(publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 10)
    name_issues(publication)
    past(publication, 40, late=(3,))
    reader(now=NOW - timedelta(days=50))
    tick(NOW)
    end(NOW, {"*": "sent"})
    confirmations(publication, WEEKS[:4])


def dry(publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 1)
    name_issues(publication)
    past(publication, 60, missed=(0, 30))
    reader(now=NOW - timedelta(days=50))
    make_issue(publication, "Dire non", state="draft")
    reserve = Series.objects.create(publication=publication, kind="reserve", name="Réserve", slug="reserve")
    for number in range(4):
        reserve.append(make_issue(publication, f"r{number}"))
    tick(NOW)
    end(NOW, {"*": "sent"})


def missed(publication: Publication, reader: Reader) -> None:
    past(publication, 20)
    reader(now=NOW - timedelta(days=50))
    tick(NOW)


def resting(publication: Publication, reader: Reader) -> None:
    Break.objects.create(publication=publication, kind="silence", first=date(2026, 11, 20), last=date(2026, 12, 3))
    daily_queue(publication, 10)
    name_issues(publication)
    past(publication, 90)
    reader(now=NOW - timedelta(days=50))
    tick(NOW)


def covered(publication: Publication, reader: Reader) -> None:
    dry(publication, reader)
    Break.objects.create(publication=publication, kind="reserve", first=date(2026, 11, 24), last=date(2026, 11, 30))


def drifted(publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 2)
    name_issues(publication)
    article = Article.objects.create(
        publication=publication, title="Petit tarif, grande fatigue", body="Un texte ancien.", content_hash="1"
    )
    composing.compose_into(composing.daily_queue(publication), [article])
    article.body, article.changed_at = "Un texte nouveau.", NOW + timedelta(minutes=1)
    article.save()
    Rehearsal.objects.create(
        publication=publication, date=THE_23RD + timedelta(days=1), at=NOW, fingerprint="a", problems=[]
    )


def stopped(publication: Publication, reader: Reader) -> None:
    going(publication, reader)
    halt.stop(publication.issues.get(days__date=THE_23RD), NOW, None)


def held(publication: Publication, reader: Reader) -> None:
    going(publication, reader)
    text = words.stopped(publication, Stop.Cause.COMPLAINTS, 6, 24)
    breaker.stop(publication, Stop.Cause.COMPLAINTS, THE_23RD, text, NOW)


def late(publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 3)
    name_issues(publication)
    past(publication, 5)
    reader(now=NOW - timedelta(days=50))
    Publication.objects.update(hour=time(6, 30))


def alone(publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 3)
    name_issues(publication)


STATES: dict[str, Stage] = {
    "first": lambda publication, reader: None,
    "going": going,
    "well": well,
    "dry": dry,
    "missed": missed,
    "resting": resting,
    "covered": covered,
    "drifted": drifted,
    "stopped": stopped,
    "held": held,
    "late": late,
    "alone": alone,
}


@pytest.fixture
def entered(
    live_server: LiveServer, maud: User, now: Any, settings: Any, client: Client
) -> Callable[..., BrowserContext]:
    """Open a browser in which Maud is logged in."""
    settings.BASE_URL = live_server.url
    client.force_login(maud)
    key = client.cookies[django_settings.SESSION_COOKIE_NAME].value

    def enter(browser: Browser, locale: str, scheme: Any) -> BrowserContext:
        context = browser.new_context(locale=locale, color_scheme=scheme, timezone_id="Europe/Paris")
        context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": key, "url": live_server.url}])
        return context

    return enter


def seen(page: Page, size: tuple[int, int]) -> list[str]:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    return flaws(page)


@pytest.mark.sqlite
@pytest.mark.parametrize("state", STATES)
def test_every_state_is_fit_to_be_read(
    state: str, entered: Any, live_server: LiveServer, publication: Publication, reader: Reader, browser: Browser
) -> None:
    STATES[state](publication, reader)
    found = {}

    for locale, scheme in LOOKS:
        context = entered(browser, locale, scheme)
        page = context.new_page()
        page.goto(f"{live_server.url}/desk/pas/")
        for size in (PHONE, DESKTOP):
            found[locale, scheme, size] = seen(page, size)
        context.close()

    assert not {look: flaw for look, flaw in found.items() if flaw}


def test_an_author_goes_through_the_rooms(
    entered: Any, live_server: LiveServer, publication: Publication, reader: Reader, browser: Browser
) -> None:
    drifted(publication, reader)
    make_issue(publication, "devis", state="ready")
    context = entered(browser, "en-GB", "light")
    page = context.new_page()
    found: dict[str, list[str]] = {}

    page.goto(f"{live_server.url}/desk/pas/")
    page.get_by_role("button", name="Place it").click()
    expect(page.get_by_role("status")).to_have_text("“devis” is queued.")
    page.get_by_role("link", name="Compare both texts").click()
    found["compare"] = flaws(page)
    page.get_by_role("button", name="Take the new text").click()
    expect(page.get_by_role("status")).to_contain_text("has the article’s new text")
    page.get_by_role("link", name="See the email").click()
    found["email"] = flaws(page)
    page.goto(f"{live_server.url}/desk/pas/promise/?days=24")
    found["promise"] = flaws(page)
    page.get_by_role("button", name="Promise this").click()
    expect(page.get_by_role("status")).to_contain_text("you promise an email on Tuesday and Thursday")
    found["promised"] = flaws(page)
    User.objects.update(is_superuser=True, is_staff=True)
    page.goto(f"{live_server.url}/desk/pas/break/")
    found["break"] = flaws(page)
    page.goto(f"{live_server.url}/desk/pas/import/")
    page.get_by_role("button", name="Import and queue").click()
    expect(page.locator(".error")).to_be_visible()
    found["import"] = flaws(page)
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Username").fill("maud")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Enter the desk").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found["login"] = flaws(page)

    assert not {room: flaw for room, flaw in found.items() if flaw}
    context.close()


def test_the_days_are_reached_by_keyboard(
    entered: Any, live_server: LiveServer, publication: Publication, reader: Reader, browser: Browser
) -> None:
    well(publication, reader)
    context = entered(browser, "en-GB", "light")
    page = context.new_page()

    page.goto(f"{live_server.url}/desk/pas/")
    page.locator("summary", has_text="Day by day").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("row", name="Thursday 19 November avant kept, late")).to_be_visible()
    context.close()
