"""What the buttons of the desk do, and what the room says then."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from newsletters import composing, notices
from newsletters.bounces import breaker, words
from newsletters.models import Article, Break, Delivery, Entry, Issue, Publication, Series, Stop
from tests.authors import NOW, THE_23RD, daily_queue, look, tick, world
from tests.conftest import Reader
from tests.test_planning import make_issue


def test_it_places_what_is_ready(desk: Client, publication: Publication) -> None:
    daily_queue(publication, 1)
    ready = [make_issue(publication, name, state="ready") for name in ("a", "b")]

    assert "2 issues are ready, but not in the queue. Placed, they make 3 days ahead." in look(desk)
    for _twice in range(2):
        desk.post("/desk/pas/place/", {"issue": [issue.pk for issue in ready]})

    assert [entry.issue.subject for entry in Entry.objects.all()] == ["d1", "a", "b"]
    assert not Issue.objects.exclude(state="queued").exists()


def test_it_says_why_a_draft_cannot_be_queued(desk: Client, publication: Publication) -> None:
    draft = make_issue(publication, "a", state="draft")
    Issue.objects.filter(pk=draft.pk).update(body="Hello {{ nobody }}")

    response = desk.post("/desk/pas/place/", {"issue": draft.pk}, follow=True)

    assert "There is no field “nobody”" in response.content.decode()
    assert not Entry.objects.exists()


def test_the_reserve_covers_a_week(desk: Client, publication: Publication) -> None:
    daily_queue(publication, 2)
    reserve = Series.objects.create(publication=publication, kind="reserve", name="Réserve", slug="reserve")
    reserve.append(make_issue(publication, "r"))

    assert "Cover Wednesday 25 November to Tuesday 1 December from the reserve" in look(desk)
    for _twice in range(2):
        desk.post("/desk/pas/cover/", {"first": "2026-11-25", "last": "2026-12-01"})
    bad = desk.post("/desk/pas/cover/", {"first": "soon", "last": "later"}, follow=True)

    assert [(rest.kind, rest.first) for rest in Break.objects.all()] == [("reserve", date(2026, 11, 25))]
    assert "cannot be read" in bad.content.decode()


def covered(desk: Client, first: str, last: str) -> str:
    return desk.post("/desk/pas/cover/", {"first": first, "last": last}, follow=True).content.decode()


def test_the_reserve_covers_what_it_does_not_cover_yet(desk: Client, publication: Publication) -> None:
    daily_queue(publication, 2)
    rest_of(publication, date(2026, 11, 27), date(2026, 11, 27), "reserve")
    rest_of(publication, date(2026, 11, 29), date(2026, 11, 30))

    for _twice in range(2):
        page = covered(desk, "2026-11-25", "2026-12-01")

    assert "The reserve covers Wednesday 25 November to Saturday 28 November." in page
    assert "The reserve covers Tuesday 1 December to Tuesday 1 December." in page
    reserve = Break.objects.filter(kind="reserve").values_list("first", "last")
    assert [(first.day, last.day) for first, last in reserve] == [(25, 26), (27, 27), (28, 28), (1, 1)]


def test_the_reserve_covers_no_date_that_is_fixed(desk: Client, publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 2)
    reader(now=NOW - timedelta(days=1))
    tick(NOW)

    late = covered(desk, "2026-11-22", "2026-11-23")
    page = covered(desk, "2026-11-23", "2026-11-25")

    assert "There was nothing left to cover." in late
    assert "The reserve covers Tuesday 24 November to Wednesday 25 November." in page
    assert [(rest.first, rest.last) for rest in Break.objects.all()] == [(date(2026, 11, 24), date(2026, 11, 25))]


def test_it_announces_a_break(desk: Client, publication: Publication) -> None:
    daily_queue(publication, 2)

    assert "Announce this break" in desk.get("/desk/pas/break/").content.decode()
    wrong = desk.post("/desk/pas/break/", {"first": "2026-11-26", "last": "2026-11-20"})
    right = desk.post("/desk/pas/break/", {"first": "2026-11-26", "last": "2026-11-30"}, follow=True)

    assert wrong.status_code == 422
    assert "Choose a later last day." in wrong.content.decode()
    desk.post("/desk/pas/break/", {"first": "2026-11-26", "last": "2026-11-30"})
    assert "No email from Thursday 26 November to Monday 30 November." in right.content.decode()
    assert Break.objects.get().kind == "silence"


@pytest.mark.parametrize(("button", "text"), [("take", "A new text."), ("keep", "An old text.")])
def test_it_compares_an_article_that_changed(
    desk: Client, publication: Publication, button: str, text: str, now: Any
) -> None:
    article = Article.objects.create(publication=publication, title="Tarif", body="An old text.", content_hash="1")
    composing.compose_into(composing.daily_queue(publication), [article])
    article.body, article.changed_at = "A new text.", now(datetime.now(UTC) + timedelta(minutes=1))
    article.save()
    issue = Issue.objects.get()

    assert "The article of “Tarif” has changed on the blog" in look(desk)
    page = desk.get(f"/desk/pas/issues/{issue.pk}/compare/").content.decode()
    desk.post(f"/desk/pas/issues/{issue.pk}/compare/", {button: ""})

    assert "<del>old</del>" in page
    assert "<ins>new</ins>" in page
    issue.refresh_from_db()
    assert text in issue.body
    assert "has changed on the blog" not in look(desk)


def test_it_shows_an_email_before_it_goes_out(desk: Client, publication: Publication) -> None:
    issue = make_issue(publication, "d1")

    page = desk.get(f"/desk/pas/issues/{issue.pk}/")
    frame = desk.get(f"/desk/pas/issues/{issue.pk}/html/")

    assert "d1" in page.content.decode()
    assert "sandbox" in frame["Content-Security-Policy"]


def test_a_reserve_that_is_spoken_for_is_not_offered_again(desk: Client, publication: Publication) -> None:
    daily_queue(publication, 2)
    reserve = Series.objects.create(publication=publication, kind="reserve", name="Réserve", slug="reserve")
    for number in range(2):
        reserve.append(make_issue(publication, f"r{number}"))
    Break.objects.create(publication=publication, kind="reserve", first=date(2026, 11, 25), last=date(2026, 11, 28))
    make_issue(publication, "a", state="ready")

    page = look(desk)

    assert "The queue is empty on Friday 27 November." in page
    assert "1 issue is ready, but not in the queue. Placed, it makes 4 days ahead." in page
    assert "The reserve holds" not in page


def rest_of(publication: Publication, first: date, last: date, kind: str = "silence") -> Break:
    return Break.objects.create(publication=publication, kind=kind, first=first, last=last)


@pytest.mark.parametrize("kind", ["silence", "reserve"])
def test_a_break_to_come_is_taken_back(desk: Client, publication: Publication, kind: str) -> None:
    daily_queue(publication, 9)
    rest = rest_of(publication, date(2026, 12, 26), date(2026, 12, 30), kind)

    assert "Take it back<span" in look(desk)
    first = desk.post(f"/desk/pas/break/{rest.pk}/", follow=True)
    twice = desk.post(f"/desk/pas/break/{rest.pk}/", follow=True)

    assert "the queue goes on from Saturday 26 December." in first.content.decode()
    assert "the queue goes on" not in twice.content.decode()
    assert not Break.objects.exists()


def test_a_break_under_way_ends_where_no_zone_has_begun_a_date(
    desk: Client, publication: Publication, reader: Reader
) -> None:
    daily_queue(publication, 3)
    kiritimati = reader(zone="Pacific/Kiritimati", now=NOW - timedelta(days=6))
    tick(NOW - timedelta(days=4))
    rest = rest_of(publication, date(2026, 11, 20), date(2026, 12, 3))
    tick(NOW + timedelta(hours=11))  # the 24th has struck there

    page = look(desk)
    desk.post(f"/desk/pas/break/{rest.pk}/")
    tick(NOW + timedelta(hours=35))

    rest.refresh_from_db()
    assert "End it<span" in page
    assert rest.last == date(2026, 11, 24)
    rows = Delivery.objects.filter(subscriber=kiritimati, local_date__gt=date(2026, 11, 19))
    assert list(rows.values_list("local_date", "issue__subject")) == [(date(2026, 11, 25), "d2")]


def test_readers_who_have_not_been_told_of_a_break_never_are(
    desk: Client, publication: Publication, reader: Reader
) -> None:
    daily_queue(publication, 3)
    reader(now=NOW - timedelta(days=7))
    rest = rest_of(publication, date(2026, 11, 24), date(2026, 11, 30))
    notices.tick(datetime(2026, 11, 22, 18, 0, tzinfo=UTC))

    page = desk.post(f"/desk/pas/break/{rest.pk}/", follow=True).content.decode()

    assert list(Delivery.objects.exclude(slot=0).values_list("state", "reason")) == [("skipped", "withdrawn")]
    assert "Readers had been told of it." in page


def test_held_emails_say_why_and_go_on(desk: Client, publication: Publication, reader: Reader) -> None:
    daily_queue(publication, 3)
    world(reader, 3)
    tick(NOW)
    text = words.stopped(publication, Stop.Cause.REFUSALS, 25, 100)
    breaker.stop(publication, Stop.Cause.REFUSALS, THE_23RD, text, NOW)

    page = look(desk)
    after = desk.post("/desk/pas/go-on/", follow=True).content.decode()

    assert "Your emails are held back." in page
    assert "25 des 100 emails d’une journée ont été refusés" in page
    assert "Your emails go on." in after
    assert "Your emails are held back." not in after
    assert not Stop.objects.standing().exists()
