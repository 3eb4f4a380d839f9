"""Wrong input is refused when it is saved, with a sentence that says what to do, and nothing is half-saved."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.test import Client
from django.utils import translation

from newsletters import planning, sending
from newsletters.models import Break, Delivery, Entry, Issue, PromiseChange, Publication, Series, Subscriber
from optin.models import OptInPage
from tests.conftest import Reader

MONDAY_NOON = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
TOMORROW = date(2026, 11, 24)


@pytest.fixture(autouse=True)
def monday() -> Iterator[None]:
    with time_machine.travel(MONDAY_NOON, tick=False):
        yield


def make_issue(publication: Publication, subject: str, state: str = "queued") -> Issue:
    return Issue.objects.create(
        publication=publication, subject=subject, body="Texte", state=state, public_id=subject.lower()
    )


def make_series(publication: Publication, kind: str) -> Series:
    return Series.objects.create(publication=publication, kind=kind, name=kind, slug=kind)


def refused(row: Model, field: str) -> str:
    """Return the sentence, after checking that there is one in each language."""
    sentences = []
    for language in ("en", "fr"):
        with translation.override(language), pytest.raises(ValidationError) as error:
            row.full_clean()
        assert list(error.value.message_dict) == [field]
        sentences += error.value.message_dict[field]
    assert all(sentence.endswith((".", "…")) for sentence in sentences)
    return str(sentences[0])


@pytest.mark.parametrize("weekdays", ["", "8", "11", "Monday", "0"])
def test_a_promise_without_weekdays(publication: Publication, weekdays: str) -> None:
    publication.weekdays = weekdays
    with pytest.raises(ValidationError) as error:
        publication.full_clean()
    assert "weekdays" in error.value.message_dict


@pytest.mark.parametrize("hour", ["25:00", "seven", "7:60"])
def test_an_hour_that_is_none(publication: Publication, hour: str) -> None:
    publication.hour = hour
    with pytest.raises(ValidationError) as error:
        publication.full_clean()
    assert "hour" in error.value.message_dict


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "UTC+2", "../etc/passwd"])
def test_an_unknown_zone(publication: Publication, zone: str, reader: Reader) -> None:
    alice = reader()
    for row in (publication, alice):
        row.zone = zone
        with pytest.raises(ValidationError) as error:
            row.full_clean()
        assert "zone" in error.value.message_dict


def test_more_days_for_readers_who_were_not_told(publication: Publication, reader: Reader) -> None:
    Publication.objects.update(weekdays="135")
    publication.refresh_from_db()
    publication.weekdays = "1234567"
    publication.full_clean()

    reader()

    refused(publication, "weekdays")
    publication.weekdays = "1"
    publication.full_clean()


def test_a_date_that_is_fixed_already(publication: Publication) -> None:
    entry = Entry(series=make_series(publication, "daily"), issue=make_issue(publication, "D1"), rank=1)
    for day in (date(2026, 11, 22), date(2026, 11, 23)):
        entry.pinned_date = day
        refused(entry, "pinned_date")

    entry.pinned_date = TOMORROW
    entry.full_clean()


def test_a_pin_of_the_past_does_not_keep_an_entry_from_being_saved(publication: Publication) -> None:
    entry = Entry.objects.create(
        series=make_series(publication, "daily"), issue=make_issue(publication, "D1"), rank=1, pinned_date="2026-11-02"
    )
    entry = Entry.objects.get(pk=entry.pk)
    entry.rank = 5
    entry.full_clean()


def test_a_date_on_which_nothing_is_promised(publication: Publication) -> None:
    Publication.objects.update(weekdays="12345")
    publication.refresh_from_db()
    entry = Entry(series=make_series(publication, "daily"), issue=make_issue(publication, "D1"), rank=1)
    entry.pinned_date = date(2026, 11, 28)

    refused(entry, "pinned_date")


def test_a_date_in_a_sequence(publication: Publication) -> None:
    entry = Entry(series=make_series(publication, "sequence"), issue=make_issue(publication, "S1"), rank=1)
    entry.pinned_date = TOMORROW

    refused(entry, "pinned_date")


def test_an_empty_sequence_to_start_with(publication: Publication, page: OptInPage) -> None:
    series = make_series(publication, "sequence")
    series.append(make_issue(publication, "S1", "draft"))
    series.welcome, page.series = True, series

    refused(series, "welcome")
    refused(page, "series")

    Issue.objects.update(state="queued")
    series.full_clean()
    page.full_clean()


def test_a_sequence_of_another_publication(publication: Publication, page: OptInPage) -> None:
    other = Publication.objects.create(name="Other", slug="other", author="O", sender="o@example.com")
    page.series = make_series(other, "sequence")

    refused(page, "series")


def test_a_reserve_with_drafts(publication: Publication) -> None:
    reserve, draft = make_series(publication, "reserve"), make_issue(publication, "R1", "draft")

    refused(Entry(series=reserve, issue=draft, rank=1), "issue")

    done = make_issue(publication, "R2")
    reserve.append(done)
    done.state = "ready"
    refused(done, "state")
    sequence = make_series(publication, "sequence")
    Series.objects.filter(kind="reserve").update(kind="sequence", slug="other")
    sequence.append(draft)
    sequence.kind = "reserve"
    refused(sequence, "kind")


def test_a_day_that_ends_before_it_begins(publication: Publication) -> None:
    change = PromiseChange(
        publication=publication, first=TOMORROW, hour=time(21), weekdays="1234567", late_until=time(20)
    )

    refused(change, "late_until")


def test_days_of_ones_own_and_digests_that_are_none(reader: Reader) -> None:
    alice = reader()
    alice.weekdays, alice.digest_on = "9", 8

    with pytest.raises(ValidationError) as error:
        alice.full_clean()

    assert set(error.value.message_dict) == {"weekdays", "digest_on"}
    assert Subscriber.objects.filter(weekdays="", digest_on=None).count() == 1


def test_the_admin_refuses_and_saves_nothing(client: Client, publication: Publication) -> None:
    client.force_login(User.objects.create_superuser("root", password="x"))
    series = make_series(publication, "sequence")
    url = f"/admin/newsletters/series/{series.pk}/change/"
    formset = {
        f"entries-{name}": value
        for name, value in (
            ("TOTAL_FORMS", "0"),
            ("INITIAL_FORMS", "0"),
            ("MIN_NUM_FORMS", "0"),
            ("MAX_NUM_FORMS", "9"),
        )
    }
    data = {"publication": publication.pk, "kind": "sequence", "name": "Autre nom", "slug": "autre", "welcome": "on"}

    answer = client.post(url, data | formset)

    series.refresh_from_db()
    assert answer.status_code == 200
    assert (series.name, series.welcome) == ("sequence", False)


def test_the_admin_saves_a_change_of_the_promise_with_the_clocks(client: Client, reader: Reader) -> None:
    client.force_login(User.objects.create_superuser("root", password="x"))
    alice = reader()
    data = {"publication": alice.publication.pk, "hour": "18:00", "weekdays": "1234567", "late_until": "22:00"}

    wrong = client.post("/admin/newsletters/promisechange/add/", data | {"first": "2026-11-23"})
    right = client.post("/admin/newsletters/promisechange/add/", data | {"first": "2026-11-24"})

    assert (wrong.status_code, right.status_code) == (200, 302)
    assert PromiseChange.objects.count() == 1
    clock = alice.publication.clocks.get()
    assert clock.next_at == datetime(2026, 11, 24, 17, tzinfo=UTC)


# Through the doors: a form that is sent with something wrong


SEVEN, EVENING = time(7), time(22)


@pytest.fixture
def boss(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def told(boss: Client, url: str, data: dict[str, Any]) -> list[str]:
    """Send a form in both languages, and return the sentences with which it is refused in English."""
    sentences = []
    for language in ("en", "fr"):
        answer = boss.post(url, data, headers={"accept-language": language})
        assert answer.status_code == 200
        sentences.append(re.findall(r'<ul class="errorlist.*?</ul>', answer.content.decode(), re.DOTALL))
    english, french = (["".join(re.findall(r"<li>(.*?)</li>", one)) for one in each] for each in sentences)
    assert english
    assert len(english) == len(french)
    assert not set(english) & set(french)
    assert all(sentence.endswith((".", "…")) for sentence in english + french)
    return english


def everything() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in (Publication, Series, Entry, Break, PromiseChange)]


def publication_data(publication: Publication) -> dict[str, Any]:
    from tests.test_admin import publication_form

    return publication_form(publication)


WRONG_PROMISES = [{"weekdays": ""}, {"weekdays": "8"}, {"weekdays": "11"}, {"hour": "25:00"}, {"hour": ""}]
WRONG_PROMISES += [{"hour": "seven"}, {"zone": "Europe/Atlantis"}, {"zone": ""}, {"late_until": "06:00"}]


@pytest.mark.parametrize("wrong", WRONG_PROMISES, ids=str)
def test_a_promise_that_is_wrong_is_saved_by_no_form(
    boss: Client, publication: Publication, wrong: dict[str, str]
) -> None:
    before = everything()
    data = publication_data(publication) | {"name": "Un autre nom"} | wrong

    told(boss, f"/admin/newsletters/publication/{publication.pk}/change/", data)

    assert everything() == before


@pytest.mark.parametrize("wrong", [wrong for wrong in WRONG_PROMISES if "zone" not in wrong], ids=str)
def test_a_change_of_the_promise_that_is_wrong_is_saved_by_no_form(
    boss: Client, publication: Publication, wrong: dict[str, str]
) -> None:
    right = {"first": "2026-12-24", "hour": "07:00", "weekdays": "1234567", "late_until": "22:00"}

    told(boss, "/admin/newsletters/promisechange/add/", {"publication": publication.pk} | right | wrong)

    assert not PromiseChange.objects.exists()


def series_data(series: Series | None, *entries: dict[str, Any], **columns: str) -> dict[str, Any]:
    """Return what the form of a series sends, with these lines of entries."""
    known = sum("id" in entry for entry in entries)
    numbers = {"TOTAL_FORMS": len(entries), "INITIAL_FORMS": known, "MIN_NUM_FORMS": 0, "MAX_NUM_FORMS": 99}
    data: dict[str, Any] = {f"entries-{name}": number for name, number in numbers.items()} | columns
    for number, entry in enumerate(entries):
        data |= {f"entries-{number}-{name}": value for name, value in entry.items()}
        data[f"entries-{number}-series"] = series.pk if series else ""
    return data


def line(entry: Entry, **changed: Any) -> dict[str, Any]:
    return {"id": entry.pk, "issue": entry.issue_id, "rank": entry.rank, "pinned_date": ""} | changed


def of(series: Series) -> str:
    return f"/admin/newsletters/series/{series.pk}/change/"


def columns(series: Series, **changed: str) -> dict[str, str]:
    names = ("kind", "name", "slug")
    return {"publication": str(series.publication_id)} | {name: getattr(series, name) for name in names} | changed


def test_a_new_reserve_with_a_draft_is_not_made_at_all(boss: Client, publication: Publication) -> None:
    done, draft = make_issue(publication, "R1"), make_issue(publication, "R2", "draft")
    new = {"publication": str(publication.pk), "kind": "reserve", "name": "Réserve", "slug": "reserve"}
    lines = [{"issue": one.pk, "rank": "", "pinned_date": ""} for one in (done, draft)]

    told(boss, "/admin/newsletters/series/add/", series_data(None, *lines, **new))
    assert not Series.objects.exists()

    assert boss.post("/admin/newsletters/series/add/", series_data(None, lines[0], **new)).status_code == 302
    assert [entry.issue for entry in Entry.objects.all()] == [done]


def test_a_new_queue_takes_a_date_to_come_and_none_of_the_past(boss: Client, publication: Publication) -> None:
    issue = make_issue(publication, "D1")
    new = {"publication": str(publication.pk), "kind": "daily", "name": "File", "slug": "file"}
    wrong, right = (
        series_data(None, {"issue": issue.pk, "rank": "", "pinned_date": day}, **new)
        for day in ("2026-11-20", "2026-11-25")
    )

    told(boss, "/admin/newsletters/series/add/", wrong)
    assert not Series.objects.exists()

    assert boss.post("/admin/newsletters/series/add/", right).status_code == 302
    assert Entry.objects.get().pinned_date == date(2026, 11, 25)


def test_a_pinned_date_in_the_past_is_saved_by_no_list(boss: Client, publication: Publication) -> None:
    series = make_series(publication, "daily")
    entries = [series.append(make_issue(publication, name)) for name in ("D1", "D2")]
    before = everything()
    data = {"form-TOTAL_FORMS": 2, "form-INITIAL_FORMS": 2, "_save": "Save"}
    for number, entry in enumerate(entries):
        data |= {f"form-{number}-id": entry.pk, f"form-{number}-rank": entry.rank + 7}
        data |= {f"form-{number}-pinned_date": "2026-11-20" if number else ""}

    told(boss, "/admin/newsletters/entry/", data)

    assert everything() == before


def test_a_sequence_that_readers_start_with_is_not_emptied(boss: Client, publication: Publication) -> None:
    series = make_series(publication, "sequence")
    entries = [series.append(make_issue(publication, name)) for name in ("S1", "S2")]
    Series.objects.update(welcome=True)
    Issue.objects.filter(subject="S2").update(state="draft")
    before = everything()

    lines = [line(entries[0], DELETE="on"), line(entries[1])]
    told(boss, of(series), series_data(series, *lines, **columns(series, welcome="on", name="Autre")))

    assert everything() == before


def test_what_is_no_daily_issue_of_this_publication_stands_in_no_series(publication: Publication) -> None:
    other = Publication.objects.create(name="Other", slug="other", author="O", sender="o@example.com")
    series, note = make_series(publication, "sequence"), make_issue(publication, "Note")
    refused(Entry(series=series, issue=make_issue(other, "Foreign"), rank=1), "issue")

    series.append(note)
    note.kind = "announcement"
    refused(note, "kind")
    Issue.objects.filter(pk=note.pk).update(kind="announcement")
    refused(Entry(series=make_series(publication, "daily"), issue=Issue.objects.get(pk=note.pk), rank=1), "issue")


def test_typed_places_are_never_the_same_nor_below_the_first(
    boss: Client, publication: Publication, reader: Reader
) -> None:
    series = make_series(publication, "sequence")
    entries = [series.append(make_issue(publication, name)) for name in ("S1", "S2", "S3", "S4")]
    typed = [line(entry, rank=rank) for entry, rank in zip(entries, (0, 5, 5, -3), strict=True)]
    Series.objects.update(welcome=True)
    alice = reader(now=MONDAY_NOON)

    answer = boss.post(of(series), series_data(series, *typed, **columns(series, welcome="on")))

    assert answer.status_code == 302
    order = list(series.entries.order_by("rank").values_list("issue__subject", "rank"))
    assert order == [("S4", 1), ("S1", 2), ("S2", 5), ("S3", 6)]
    for day in range(1, 5):
        now = MONDAY_NOON + timedelta(days=day)
        planning.tick(now)
        sending.drain(lambda: now)  # noqa: B023 - called before the next turn
    rows = Delivery.objects.filter(subscriber=alice).order_by("local_date")
    assert [row.issue.subject for row in rows if row.issue] == ["S4", "S1", "S2", "S3"]


def test_who_saves_an_entry_unmoved_moves_nothing(boss: Client, publication: Publication) -> None:
    entry = make_series(publication, "daily").append(make_issue(publication, "D1"))
    data = {"series": entry.series_id, "issue": entry.issue_id, "rank": entry.rank}

    boss.post(f"/admin/newsletters/entry/{entry.pk}/change/", data | {"pinned_date": "2026-11-25"})

    after = Entry.objects.get()
    assert after.pinned_date == date(2026, 11, 25)
    assert after.placed_at == entry.placed_at


@pytest.mark.parametrize(
    ("kind", "state", "own"),
    [("daily", "queued", True), ("announcement", "draft", True), ("announcement", "queued", False)],
)
def test_what_cannot_tell_readers_announces_nothing(publication: Publication, kind: str, state: str, own: bool) -> None:
    other = Publication.objects.create(name="Other", slug="other", author="O", sender="o@example.com")
    issue = make_issue(publication if own else other, "Note", state)
    Issue.objects.update(kind=kind)
    issue.refresh_from_db()
    facts = {"publication": publication, "first": date(2026, 12, 24), "announcement": issue}

    refused(Break(last=date(2026, 12, 26), kind="silence", **facts), "announcement")
    refused(PromiseChange(hour=SEVEN, weekdays="1234567", late_until=EVENING, **facts), "announcement")


def test_a_break_that_readers_were_told_of_is_not_lengthened(publication: Publication) -> None:
    first, last = date(2026, 11, 26), date(2026, 11, 28)
    rest = Break.objects.create(
        publication=publication, kind="silence", first=first, last=last, announced_at=MONDAY_NOON
    )

    rest.last = date(2026, 11, 30)
    refused(rest, "last")
    rest.first, rest.last = date(2026, 11, 25), last
    refused(rest, "first")
    rest.first = rest.last = date(2026, 11, 27)
    rest.full_clean()


def test_days_covered_by_the_reserve_do_not_fall_silent_untold(publication: Publication) -> None:
    rest = Break.objects.create(publication=publication, first=date(2026, 11, 23), last=date(2026, 11, 28))

    rest.kind = "silence"

    refused(rest, "first")


def test_a_change_that_readers_were_told_of_brings_no_more_and_no_sooner(publication: Publication) -> None:
    Publication.objects.update(weekdays="1")
    facts = {"hour": SEVEN, "late_until": EVENING, "before": "1", "announced_at": MONDAY_NOON}
    publication.refresh_from_db()
    change = PromiseChange.objects.create(publication=publication, first=date(2026, 12, 14), weekdays="13", **facts)

    change.weekdays = "135"
    refused(change, "weekdays")
    change.weekdays, change.first = "13", date(2026, 12, 7)
    refused(change, "first")
    change.first, change.weekdays = date(2026, 12, 21), "1"
    change.full_clean()
