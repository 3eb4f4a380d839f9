"""The evening before: tomorrow's emails made for everyone who will get them, read, and shown to the author."""

import tracemalloc
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from django.utils import translation

from newsletters import letters, planning, proofreading, rehearsal
from newsletters.models import (
    Break,
    Clock,
    Delivery,
    Issue,
    Letter,
    Publication,
    Rehearsal,
    Series,
    Subscriber,
    Text,
)
from newsletters.models.outgoing import State
from newsletters.models.subscriber import keyed_hash
from tests.conftest import Reader

EVENING = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)  # 18:00 in Paris
MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
LONG_AGO = datetime(2026, 11, 1, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
BODY = "Bonjour,\n\nTrois lignes, chaque soir, suffisent à tenir un carnet pendant des années.\n\nÀ demain."


def make_issue(publication: Publication, subject: str, body: str = BODY) -> Issue:
    issue = Issue.objects.create(
        publication=publication, subject=subject, body=body, state="queued", public_id=subject.lower()
    )
    issue.texts.add(Text.objects.create(publication=publication))
    return issue


@pytest.fixture
def daily(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in (1, 2, 3):
        series.append(make_issue(publication, f"D{number}"))
    return series


def rehearse(publication: Publication, now: datetime = EVENING) -> Rehearsal:
    made = rehearsal.rehearse(Publication.objects.get(pk=publication.pk), now)
    assert made is not None
    return made


def edit(body: str) -> None:
    issue = Issue.objects.get(subject="D1")
    issue.body = body
    issue.save()


def kinds(found: list[dict[str, object]]) -> list[object]:
    return [one["kind"] for one in found]


def parts(data: bytes) -> tuple[EmailMessage, str, str]:
    mail = message_from_bytes(data, policy=default)
    assert isinstance(mail, EmailMessage)
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    return mail, text.get_content(), html.get_content()


def test_it_finds_nothing_wrong_and_says_so(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    reader("taro@example.com", zone="Asia/Tokyo", now=LONG_AGO)

    made = rehearse(daily.publication)

    assert (made.date, made.readers) == (date(2026, 11, 23), 2)
    assert (made.problems, made.remarks) == ([], [])
    assert 3_000 < made.largest < 102_000
    assert not Delivery.objects.exists()


def test_it_waits_for_the_evening_and_comes_once(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    Clock.objects.update(next_date=date(2026, 11, 23), next_at=MONDAY)

    assert rehearsal.rehearse_due(EVENING - timedelta(minutes=1)) == []
    assert len(rehearsal.rehearse_due(EVENING)) == 1
    assert rehearsal.rehearse_due(EVENING + timedelta(minutes=5)) == []


def test_an_evening_hour_is_rehearsed_the_evening_before(publication: Publication) -> None:
    Publication.objects.update(hour="20:00")
    publication.refresh_from_db()
    assert rehearsal.begins(publication, date(2026, 11, 24)) == datetime(2026, 11, 23, 17, tzinfo=UTC)

    publication.hour = publication.hour.replace(hour=4)
    assert rehearsal.begins(publication, date(2026, 11, 24)) == datetime(2026, 11, 23, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"{BODY}\n\n[La suite](suite.html) ici.", "relative"),
        ("mot " * 30_000, "long"),
        ("   ", "bare"),
    ],
)
def test_it_finds_what_breaks_an_email(daily: Series, reader: Reader, body: str, kind: str) -> None:
    reader(now=LONG_AGO)
    edit(body)

    made = rehearse(daily.publication)

    assert kind in kinds(made.problems)
    for language in ("en", "fr"):
        assert "D1" in proofreading.sentence(made.problems[0], language)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"{BODY}\n\n![](https://blog.example/carnet.jpg)", "alt"),
        (f"Bonjour {{{{ prénom }}}},\n\n{BODY}", "name"),
    ],
)
def test_it_remarks_on_what_is_worth_a_look(daily: Series, reader: Reader, body: str, kind: str) -> None:
    reader(now=LONG_AGO)
    reader("bob@example.com", first_name="Bob", now=LONG_AGO)
    edit(body)

    made = rehearse(daily.publication)

    assert made.problems == []
    assert kinds(made.remarks) == [kind]
    assert made.remarks[0].get("readers", 1) == 1


def test_a_relative_link_of_an_article_leads_to_its_blog(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    edit(f"{BODY}\n\n[La suite](suite.html) ici.")
    Issue.objects.filter(subject="D1").update(canonical_url="https://blog.example/carnet/")

    assert rehearse(daily.publication).problems == []


def test_readers_for_whom_nothing_is_left_are_counted(publication: Publication, reader: Reader) -> None:
    reader(now=LONG_AGO)
    reader("bob@example.com", now=LONG_AGO)

    made = rehearse(publication)

    assert made.problems == [{"kind": "dry", "readers": 2}]
    assert "2" in proofreading.sentence(made.problems[0], "en")


def test_a_part_without_the_way_out_is_found() -> None:
    data = (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="x"\r\n\r\n'
        b"--x\r\nContent-Type: text/plain\r\n\r\nhttps://h/leave/t/\r\n"
        b'--x\r\nContent-Type: text/html\r\n\r\n<p><a href="/somewhere">x</a></p>\r\n--x--\r\n'
    )

    found = proofreading.message(data, "https://h/leave/t/")

    assert [(one.kind, one.what) for one in found] == [("leave", "HTML"), ("relative", "/somewhere")]


def test_a_text_that_says_less_than_the_html_is_found(daily: Series, reader: Reader) -> None:
    from newsletters import rendering

    issue = Issue.objects.select_related("publication").get(subject="D1")
    revision = rendering.revision_of(issue)
    assert proofreading.revision(issue, revision) == []

    revision.text = "Lisez cet email en ligne."

    assert [one.kind for one in proofreading.revision(issue, revision)] == ["unbalanced"]


def test_everyone_gets_what_the_planner_would_give(publication: Publication, daily: Series, reader: Reader) -> None:
    welcome = Series.objects.create(publication=publication, name="Accueil", slug="accueil", welcome=True)
    welcome.append(make_issue(publication, "S1"))
    older = reader("older@example.com", start=False)
    older.start(LONG_AGO)
    reader("new@example.com", now=EVENING - timedelta(hours=2))
    weekly = [reader(f"w{number}@example.com", start=False) for number in range(2)]
    for one in weekly:
        one.start(LONG_AGO)
        one.receive_weekly(1)
    reader("gone@example.com", now=LONG_AGO).leave(EVENING)
    Clock.objects.update(next_date=date(2026, 11, 23), next_at=MONDAY)
    run = rehearsal.Run(publication, date(2026, 11, 23))

    run.go(EVENING)
    planning.tick(MONDAY)

    planned = Delivery.objects.filter(state=State.PLANNED)
    made = {proof.issue.pk: proof.readers for proof in run.proofs.values()}
    assert made == {pk: planned.filter(issue=pk).count() for pk in made}
    assert sorted(planned.values_list("way", flat=True)) == ["daily", "digest", "digest", "sequence"]
    assert run.readers == planned.count()


def test_the_issue_pinned_to_tomorrow_is_the_one_rehearsed(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    daily.entries.filter(issue__subject="D3").update(pinned_date=date(2026, 11, 23))

    rehearse(daily.publication)

    assert Letter.objects.get().context["issue"] == Issue.objects.get(subject="D3").pk


def test_a_break_is_not_rehearsed(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    Break.objects.create(publication=daily.publication, kind="silence", first="2026-11-23", last="2026-11-24")

    assert rehearsal.rehearse(daily.publication, EVENING) is None


def test_a_sample_is_mailed_once_for_each_text(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    rehearse(daily.publication)
    reader("bob@example.com", now=LONG_AGO)
    rehearse(daily.publication, EVENING + timedelta(hours=1))
    assert Letter.objects.filter(kind=Letter.Kind.SAMPLE).count() == 1

    edit(f"{BODY}\n\n![](https://blog.example/carnet.jpg)")
    rehearse(daily.publication, EVENING + timedelta(hours=2))

    first, second = Letter.objects.order_by("pk")
    assert first.address == daily.publication.reply_to
    mail, text, html = parts(letters.message_bytes(second, EVENING))
    assert "D1" in mail["Subject"]
    assert mail["List-Unsubscribe"] is None
    assert mail["To"] == "maud@lepasdujour.example"
    for part in (text, html):
        assert "chaque soir" in part
        assert "https://blog.example/carnet.jpg" in part
        assert "alice@example.com" not in part


def test_a_sample_of_an_issue_that_was_deleted_still_goes_out(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    rehearse(daily.publication)
    Issue.objects.all().delete()

    with translation.override("en"):
        _mail, text, _html = parts(letters.message_bytes(Letter.objects.get(), EVENING))

    assert text.strip()


def test_memory_does_not_grow_with_the_list(daily: Series, reader: Reader) -> None:
    reader(now=LONG_AGO)
    peaks = []
    for number in (300, 3000):
        add_readers(daily.publication, number)
        rehearsal.Run(daily.publication, date(2026, 11, 23)).go(EVENING)
        tracemalloc.start()
        run = rehearsal.Run(daily.publication, date(2026, 11, 23))
        run.go(EVENING)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert run.readers > 3000
    assert peaks[1] < 2.5 * peaks[0]


def add_readers(publication: Publication, number: int) -> None:
    Subscriber.objects.bulk_create(
        Subscriber(
            publication=publication,
            address=f"r{number}-{one}@example.com",
            address_key=f"r{number}-{one}@example.com",
            address_hash=keyed_hash(f"r{number}-{one}"),
            zone=publication.zone,
            language="fr",
            status=Subscriber.Status.ACTIVE,
            member_since=LONG_AGO,
        )
        for one in range(number)
    )
