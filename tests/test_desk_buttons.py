"""What the buttons of the desk do, and what the room says then."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from newsletters import composing
from newsletters.models import Article, Break, Entry, Issue, Publication, Series
from tests.authors import daily_queue, look
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
