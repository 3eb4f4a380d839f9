"""Wrong input is refused when it is saved, with a sentence that says what to do, and nothing is half-saved."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.test import Client
from django.utils import translation

from newsletters.models import Entry, Issue, PromiseChange, Publication, Series, Subscriber
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
