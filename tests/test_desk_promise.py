"""What a promise costs, at the desk, and making another."""

from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
from django.test import Client

from newsletters.models import Article, Member, PromiseChange, Publication
from tests.authors import NOW

AGAIN = {"hour": "08:30", "late_until": "22:00"}


def articles(publication: Publication, number: int, long: int = 0) -> None:
    for place in range(number):
        body = "Un texte. " * (2000 if place < long else 5)
        Article.objects.create(
            publication=publication,
            title=f"a{place}",
            body="\n\n".join([body] * 3),
            content_hash=str(place),
            url=f"https://b.example/{place}",
        )


def page(desk: Client, query: str = "") -> str:
    return " ".join(desk.get(f"/desk/pas/promise/{query}").content.decode().split())


def test_it_shows_how_far_each_promise_reaches(desk: Client, publication: Publication) -> None:
    articles(publication, 10)

    shown = page(desk)

    assert "<h1>One email every day, at 7:00</h1>" in shown
    assert "<span>Every day</span>" in shown
    assert '<path d="M0 8h6"/><path class="open" d="M6 8h150"/>' in shown  # ten days: two weeks of a year
    assert "10 days<span" in shown
    assert "<b>On Tuesday and Thursday</b>" in shown
    assert 'href="?days=24#change"' in shown
    assert "promise/#costs" in desk.get("/desk/pas/").content.decode()


def test_nothing_imported_is_said(desk: Client, publication: Publication) -> None:
    assert "Nothing is imported yet. Import your blog, then choose a promise." in page(desk)


def test_a_link_proposes_days(desk: Client, publication: Publication) -> None:
    shown = page(desk, "?days=24")

    assert shown.count(" checked") == 2
    assert 'value="2026-11-24"' in shown
    assert page(desk, "?days=x9").count(" checked") == 7


def test_it_changes_the_promise_from_a_date_on(desk: Client, publication: Publication) -> None:
    given = AGAIN | {"weekdays": ["4", "2"], "first": "2026-11-30"}
    after = desk.post("/desk/pas/promise/", given, follow=True).content.decode()
    twice = desk.post("/desk/pas/promise/", given)

    change = PromiseChange.objects.get()
    assert (change.first, change.hour, change.weekdays) == (date(2026, 11, 30), time(8, 30), "24")
    assert "From Monday 30 November on you promise an email on Tuesday and Thursday, at 8:30." in after
    assert (twice.status_code, "Another change begins" in twice.content.decode()) == (422, True)
    publication.refresh_from_db()
    assert publication.weekdays == "1234567"

    for _twice in range(2):
        desk.post(f"/desk/pas/promise/{change.pk}/")
    assert not PromiseChange.objects.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weekdays": []}, "Promise at least one day."),
        ({"hour": "25:00"}, "Enter a valid time."),
        ({"first": "2026-11-23"}, "from tomorrow on at the earliest"),
        ({"late_until": "06:00"}, "before its promised hour"),
    ],
)
def test_it_says_what_is_wrong_with_a_promise(
    desk: Client, publication: Publication, given: dict[str, Any], said: str
) -> None:
    whole = AGAIN | {"weekdays": ["2"], "first": "2026-11-30"} | given

    answer = desk.post("/desk/pas/promise/", whole)

    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not PromiseChange.objects.exists()


def test_more_days_are_told_a_week_ahead(desk: Client, publication: Publication) -> None:
    Publication.objects.update(weekdays="24")
    soon = desk.post("/desk/pas/promise/", AGAIN | {"weekdays": ["2", "4", "6"], "first": "2026-11-28"})
    later = desk.post("/desk/pas/promise/", AGAIN | {"weekdays": ["2", "4", "6"], "first": "2026-12-05"}, follow=True)

    assert "More days are announced a week ahead." in soon.content.decode()
    assert "Your readers are told a week ahead." in later.content.decode()


def test_a_promise_in_force_and_anothers_stay(desk: Client, maud: Any, publication: Publication) -> None:
    other = Publication.objects.create(name="Autre", slug="autre", author="Bob", sender="b@b.example")
    first = (NOW + timedelta(days=3)).date()
    kept = [
        PromiseChange.objects.create(publication=one, first=first, hour=time(7), weekdays="2", late_until=time(22))
        for one in (publication, other)
    ]
    PromiseChange.objects.filter(pk=kept[0].pk).update(applied_at=datetime.now(NOW.tzinfo))

    for change in kept:
        desk.post(f"/desk/pas/promise/{change.pk}/")
    Member.objects.filter(user=maud).update(role="viewer")

    assert PromiseChange.objects.count() == 2
    assert desk.get("/desk/autre/promise/").status_code == 404
    assert desk.post("/desk/pas/promise/", AGAIN).status_code == 403
    assert "<form" not in page(desk).partition("<footer")[0]
