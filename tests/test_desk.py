"""The desk: whose it is, what its first room says in each state, and what its buttons do."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from desk.urls import urlpatterns
from newsletters import alarms, composing, halt
from newsletters.models import Article, Break, Correction, Day, Entry, Issue, Member, Publication, Rehearsal, Series
from tests.authors import NOW, THE_23RD, confirmations, daily_queue, end, look, past, tick, world
from tests.conftest import Reader
from tests.test_planning import make_issue

FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>Blog</title>{items}</channel></rss>"""
ITEM = """<item><title>{title}</title><link>https://blog.example/{title}</link>
<description>&lt;p&gt;A text about {title}, long enough to be one.&lt;/p&gt;</description></item>"""


def running(publication: Publication, reader: Reader, issues: int = 5) -> Series:
    """Let the 22nd be planned for everyone, and strike the 23rd in Paris."""
    queue = daily_queue(publication, issues)
    world(reader)
    tick(datetime(2026, 11, 22, 18, 0, tzinfo=UTC))
    end(datetime(2026, 11, 22, 18, 0, tzinfo=UTC), {"*": "sent"})
    tick(NOW)
    return queue


# Walls


def test_strangers_are_asked_to_log_in(client: Client, publication: Publication) -> None:
    for path in ("/desk/", "/desk/pas/", "/desk/pas/import/", "/desk/pas/issues/1/"):
        assert client.get(path)["Location"] == f"/desk/login/?next={path}"


def test_an_author_logs_in_and_out(client: Client, maud: User, now: Any) -> None:
    wrong = client.post("/desk/login/", {"username": "maud", "password": "no"})
    right = client.post("/desk/login/", {"username": "maud", "password": "une phrase assez longue"}, follow=True)
    client.post("/desk/logout/")

    assert "do not belong together" in wrong.content.decode()
    assert right.redirect_chain[-1][0] == "/desk/pas/"
    assert client.get("/desk/pas/").status_code == 302


def test_another_authors_rooms_do_not_exist(desk: Client, publication: Publication) -> None:
    other = Publication.objects.create(name="Autre", slug="autre", author="Bob", sender="b@b.example")
    foreign = make_issue(other, "foreign", state="draft")

    for path in (
        "",
        "import/",
        "break/",
        f"issues/{foreign.pk}/",
        f"issues/{foreign.pk}/html/",
        f"issues/{foreign.pk}/compare/",
    ):
        assert desk.get(f"/desk/autre/{path}").status_code == 404
        assert desk.get(f"/desk/pas/{path}").status_code == (404 if "issues" in path else 200)
    for path in ("place/", "cover/", "break/", "import/", f"issues/{foreign.pk}/compare/"):
        assert desk.post(f"/desk/autre/{path}", {"issue": foreign.pk}).status_code == 404
    desk.post("/desk/pas/place/", {"issue": foreign.pk})

    foreign.refresh_from_db()
    assert (foreign.state, Entry.objects.count(), Break.objects.count()) == ("draft", 0, 0)


def test_a_superuser_needs_a_membership_too(client: Client, publication: Publication, now: Any) -> None:
    client.force_login(User.objects.create_superuser("boss"))

    assert "You have no publication yet" in client.get("/desk/").content.decode()
    assert client.get("/desk/pas/").status_code == 404


def test_who_makes_a_publication_owns_it(client: Client, db: None, now: Any) -> None:
    boss = User.objects.create_superuser("boss")
    client.force_login(boss)
    of = {"name": "N", "slug": "n", "language": "en", "zone": "Europe/Paris", "accent": "#0f5c46", "hour": "07:00"}
    of |= {
        "author": "A",
        "sender": "a@a.example",
        "reply_to": "a@a.example",
        "postal_address": "X",
        "returning": "again",
        "when_uncertain": "never",
    }
    of |= {"weekdays": "1234567", "late_until": "22:00", "show_streak": "on"}

    client.post("/admin/newsletters/publication/add/", of)

    assert Member.objects.get().user == boss
    assert client.get("/desk/")["Location"] == "/desk/n/"


def test_the_admin_makes_an_authors_login(client: Client, publication: Publication, now: Any) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    user = {"username": "maud", "usable_password": "true", "password1": "une phrase assez longue"}
    client.post("/admin/auth/user/add/", user | {"password2": "une phrase assez longue"})
    member = {"publication": publication.pk, "user": User.objects.get(username="maud").pk, "role": "editor"}
    client.post("/admin/newsletters/member/add/", member)
    client.logout()

    client.post("/desk/login/", {"username": "maud", "password": "une phrase assez longue"})

    assert client.get("/desk/")["Location"] == "/desk/pas/"
    assert client.get("/admin/").status_code == 302


def test_several_publications_are_listed(desk: Client, maud: User, publication: Publication) -> None:
    other = Publication.objects.create(name="Autre", slug="autre", author="Bob", sender="b@b.example")
    Member.objects.create(publication=other, user=maud)

    assert "/desk/autre/" in desk.get("/desk/").content.decode()


def test_a_viewer_looks_and_changes_nothing(desk: Client, maud: User, publication: Publication) -> None:
    maud.memberships.update(role="viewer")
    draft = make_issue(publication, "draft", state="draft")

    assert "<button" not in look(desk).partition("<footer")[0]
    assert desk.post("/desk/pas/place/", {"issue": draft.pk}).status_code == 403


def desk_pages(desk: Client, issue: Issue) -> dict[str, str]:
    """Return every page of the desk that a GET is answered with, by its name."""
    found = {}
    for pattern in urlpatterns:
        values = {name: {"slug": "pas", "pk": issue.pk}[name] for name in pattern.pattern.converters}
        response = desk.get(reverse(f"desk:{pattern.name}", kwargs=values))
        if response.status_code == 200:
            found[str(pattern.name)] = response.content.decode()
    return found


def everything(publication: Publication, reader: Reader) -> Issue:
    """Let each page have something to show, and return an issue that was stopped and whose article changed."""
    running(publication, reader)
    article = Article.objects.create(publication=publication, title="Tarif", body="Ancien.", content_hash="1")
    issue = composing.compose_into(composing.daily_queue(publication), [article])[0]
    Article.objects.update(body="Nouveau.", changed_at=NOW + timedelta(minutes=1))
    halt.stop(issue, NOW, None)
    wrong = [{"kind": "dry", "readers": 4}]
    Rehearsal.objects.create(
        publication=publication, date=date(2026, 11, 24), at=NOW, fingerprint="a", readers=9, problems=wrong
    )
    return issue


def test_an_author_is_led_to_the_admin_by_no_page(
    desk: Client, maud: User, publication: Publication, reader: Reader
) -> None:
    others = {"first": look(desk)}
    maud.memberships.all().delete()
    others["none"] = desk.get("/desk/").content.decode()
    issue = everything(publication, reader)
    for of in (publication, Publication.objects.create(name="Autre", slug="autre")):
        Member.objects.create(user=maud, publication=of)

    pages = desk_pages(desk, issue) | others
    User.objects.update(is_superuser=True, is_staff=True)
    of_superuser = desk_pages(desk, issue)

    rooms = {"rooms", "today", "break", "promise", "import", "waves", "decide", "issue", "compare"}
    assert pages.keys() == rooms | {"first", "none", "issue_html"}
    assert not [name for name, page in pages.items() if "/admin/" in page]
    assert {name for name, page in of_superuser.items() if 'href="/admin/' in page} == rooms


def test_get_only_shows(desk: Client, publication: Publication) -> None:
    for path in ("place", "cover"):
        assert desk.get(f"/desk/pas/{path}/").status_code == 405


# What the room says


def test_nothing_imported_yet(desk: Client) -> None:
    page = look(desk)

    assert "Nothing is imported yet." in page
    assert 'type="file"' in page


def test_three_clicks_from_a_feed_to_a_filled_sequence(desk: Client, publication: Publication) -> None:
    items = "".join(ITEM.format(title=title) for title in ("one", "two", "three"))
    feed = SimpleUploadedFile("feed.xml", FEED.format(items=items).encode())
    response = desk.post(
        "/desk/pas/import/", {"file": feed, "place": "sequence", "way": "whole", "address": ""}, follow=True
    )

    assert "3 articles read, 3 emails queued." in response.content.decode()
    assert Entry.objects.filter(series__kind="sequence", series__welcome=True, issue__state="queued").count() == 3
    assert "Nobody is waiting for an email yet." in look(desk)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Give the address of your blog, or choose a file."),
        ({"address": "/etc/passwd"}, "valid URL"),
        ({"address": "file:///etc/passwd"}, "valid URL"),
        ({"address": "http://127.0.0.1/feed.xml"}, "error"),
        ({"file": SimpleUploadedFile("x.bin", b"<html><body>no</body></html>")}, "This file is neither"),
    ],
)
def test_it_says_what_is_wrong_with_an_import(desk: Client, given: dict[str, Any], said: str) -> None:
    response = desk.post("/desk/pas/import/", {"place": "daily", "way": "whole"} | given)

    assert response.status_code == 422
    assert said in response.content.decode()
    assert not Article.objects.exists()


def test_it_is_going_out(desk: Client, publication: Publication, reader: Reader) -> None:
    world(reader, 3)
    queue = daily_queue(publication, 5)
    tick(datetime(2026, 11, 22, 18, 0, tzinfo=UTC))
    end(datetime(2026, 11, 22, 18, 0, tzinfo=UTC), {"*": "sent"})
    tick(NOW)
    end(NOW, {"alice@example.com": "sent", "r0@example.com": "retry", "r1@example.com": "failed:address"})

    page = look(desk)

    assert queue.entries.count() == 5
    assert "Issue 2 is going out right now." in page
    assert '<progress max="6" value="1"' in page
    assert "<dt>gone out, of 6</dt><dd>1</dd>" in page
    assert "<dt>to come</dt><dd>3</dd>" in page
    assert "<dt>failed, dead address</dt><dd>1</dd>" in page
    assert "Montreal, Toronto at 13:00 (1), Tahiti at 18:00 (1). It will be 7:00 there." in page
    assert '<b class="good">3</b> days ahead' in page
    assert "d3" in page


def test_all_is_well(desk: Client, publication: Publication, reader: Reader, now: Any) -> None:
    past(publication, 40, late=(3,))
    daily_queue(publication, 12)
    reader(now=NOW - timedelta(days=50))
    tick(NOW)
    end(NOW, {"*": "sent"})
    confirmations(publication, [3, 5, 8])

    page = look(desk)

    assert "Issue 41 has gone out." in page
    assert "<b>40</b> days kept in a row" in page
    assert "Nothing to do" in page
    assert "<b>8</b> subscribers confirmed last week" in page
    assert "Thursday 19 November</td><td>avant</td><td>kept, late" in page
    assert "Tuesday 24 November</td><td>d2</td><td>covered" in page
    assert "It is rehearsed the evening before." in page


def test_it_has_not_started(desk: Client, publication: Publication, reader: Reader, now: Any) -> None:
    running(publication, reader)
    now(NOW + timedelta(minutes=9))

    assert "Today’s email has not started." in look(desk)


def test_nobody_plans(desk: Client, publication: Publication, reader: Reader, now: Any) -> None:
    daily_queue(publication, 2)
    reader(now=NOW - timedelta(days=1))
    now(NOW + timedelta(hours=5))

    assert "Today’s email has not started." in look(desk)


def test_before_its_hour(desk: Client, publication: Publication, reader: Reader, now: Any) -> None:
    daily_queue(publication, 2)
    reader(now=NOW - timedelta(days=1))
    now(NOW - timedelta(hours=2))

    page = look(desk)

    assert "Today’s email goes out at 7:00." in page
    assert ">Today, 7:00<" in page
    assert "You can change it for another 1 h 56 min." in page


def test_dry_tomorrow_and_a_missed_day_with_its_reason(desk: Client, publication: Publication, reader: Reader) -> None:
    past(publication, 40, missed=(0,))
    daily_queue(publication, 1)
    reader(now=NOW - timedelta(days=50))
    make_issue(publication, "brouillon", state="draft")
    tick(NOW)
    end(NOW, {"*": "sent"})

    page = look(desk)

    assert "Sunday 22 November was missed: nothing was queued, and the reserve held nothing new for them (20)." in page
    assert "<b>39</b> of 40 days kept" in page
    assert "Nothing is queued for this day" in page
    assert "“brouillon” is a draft, and nothing is queued for Tuesday 24 November." in page
    assert "Announce a break" in page


def test_a_correction_has_the_last_word(desk: Client, publication: Publication) -> None:
    past(publication, 20)
    day = Day.objects.get(date=date(2026, 11, 22))
    Correction.objects.create(day=day, at=NOW, changes={"on_time": -1, "failed": 1, "kept": False})

    assert "<b>19</b> of 20 days kept" in look(desk)


def test_at_rest(desk: Client, publication: Publication, reader: Reader) -> None:
    Break.objects.create(publication=publication, kind="silence", first=date(2026, 11, 20), last=date(2026, 12, 3))
    daily_queue(publication, 2)
    reader(now=NOW - timedelta(days=50))
    tick(NOW)

    page = look(desk)

    assert "At rest until Thursday 3 December." in page
    assert "Friday 4 December" in page


def test_the_reserve_covers(desk: Client, publication: Publication, reader: Reader) -> None:
    Break.objects.create(publication=publication, kind="reserve", first=THE_23RD, last=date(2026, 11, 30))
    daily_queue(publication, 2)
    reserve = Series.objects.create(publication=publication, kind="reserve", name="Réserve", slug="reserve")
    for number in range(9):
        reserve.append(make_issue(publication, f"r{number}"))
    reader(now=NOW - timedelta(days=50))
    tick(NOW)

    page = look(desk)

    assert "The reserve covers today" in page
    assert "From Monday 23 November to Monday 30 November the reserve covers, and the queue rests." in page
    assert "The reserve covers this day" in page


def test_a_rehearsal_tells_its_result(desk: Client, publication: Publication, reader: Reader) -> None:
    running(publication, reader)
    rehearsal = Rehearsal.objects.create(
        publication=publication, date=date(2026, 11, 24), at=NOW, fingerprint="a", readers=1196, largest=22528
    )

    well = look(desk)
    Rehearsal.objects.filter(pk=rehearsal.pk).update(problems=[{"kind": "dry", "readers": 4}])
    wrong = look(desk)

    assert "Rehearsed today at 7:04: all is well" in well
    assert "Composed for 1,196 readers, 22 kB at most." in well
    assert "4 readers have no email." in wrong
    assert "found something wrong" in wrong


@pytest.mark.parametrize("readers", [2, 200])
def test_it_asks_twelve_questions_whatever_the_lists_size(
    desk: Client, publication: Publication, reader: Reader, readers: int
) -> None:
    past(publication, 40, missed=(2,))
    daily_queue(publication, 3)
    make_issue(publication, "brouillon", state="draft")
    make_issue(publication, "prêt", state="ready")
    world(reader, readers)
    tick(NOW)
    confirmations(publication, [1, 2])
    alarms.look_ahead(publication, NOW)

    with CaptureQueriesContext(connection) as asked:
        look(desk)

    assert len(asked) <= 12, "\n".join(query["sql"] for query in asked)
