"""The order of a series: moving, inserting, skipping and taking out leave the others as they stand."""

import multiprocessing
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newsletters import planning, queue
from newsletters.models import Delivery, Entry, Issue, Publication, Series, Text, Walk
from newsletters.models.outgoing import State
from tests.conftest import Reader

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)


def make_issue(publication: Publication, subject: str) -> Issue:
    issue = Issue.objects.create(
        publication=publication, subject=subject, body=subject, state=Issue.State.QUEUED, public_id=subject
    )
    issue.texts.add(Text.objects.create(publication=publication))
    return issue


def make_series(publication: Publication, kind: str, subjects: str) -> Series:
    series = Series.objects.create(publication=publication, kind=kind, name=kind, slug=kind)
    for subject in subjects:
        series.append(make_issue(publication, subject))
    return series


@pytest.fixture
def daily(publication: Publication) -> Series:
    return make_series(publication, Series.Kind.DAILY, "abcd")


def order(series: Series) -> str:
    return "".join(series.entries.order_by("rank", "pk").values_list("issue__subject", flat=True))


def entry(series: Series, subject: str) -> Entry:
    return series.entries.get(issue__subject=subject)


def test_one_moves_and_the_others_stay(daily: Series) -> None:
    daily.move(entry(daily, "d"), before=entry(daily, "b"))
    assert order(daily) == "adbc"

    daily.move(entry(daily, "a"))
    assert order(daily) == "dbca"

    daily.move_after(entry(daily, "c"), entry(daily, "d"))
    assert order(daily) == "dcba"


def test_one_is_inserted_and_another_taken_out(daily: Series) -> None:
    daily.insert(make_issue(daily.publication, "x"), before=entry(daily, "a"))
    daily.remove(entry(daily, "c"))
    daily.insert(entry(daily, "d").issue, before=entry(daily, "b"))

    assert order(daily) == "xadb"
    assert Issue.objects.filter(subject="c").exists()


def test_whoever_names_a_neighbour_that_is_gone_moves_nothing(daily: Series) -> None:
    gone = entry(daily, "b")
    daily.remove(gone)

    daily.move(entry(daily, "d"), before=gone)

    assert order(daily) == "acd"


def test_a_gap_that_is_full_makes_room(daily: Series) -> None:
    for number in range(30):
        daily.insert(make_issue(daily.publication, str(number % 10)) if number < 10 else last(daily), entry(daily, "b"))

    assert order(daily).startswith("a")
    assert order(daily).endswith("bcd")
    ranks = list(daily.entries.order_by("rank", "pk").values_list("rank", flat=True))
    assert len(set(ranks)) == len(ranks)


def last(series: Series) -> Issue:
    found = series.entries.exclude(issue__subject__in="abcd").order_by("rank").first()
    assert found is not None
    return found.issue


def test_making_room_repeats_and_skips_nothing_in_a_walk(publication: Publication, reader: Reader) -> None:
    series = make_series(publication, Series.Kind.SEQUENCE, "abcd")
    Series.objects.update(welcome=True)
    alice = reader(now=MONDAY - ONE_DAY)
    for days in range(2):
        planning.tick(MONDAY + days * ONE_DAY)
        Delivery.objects.filter(state=State.PLANNED).update(state=State.SENT)
        Walk.objects.update(reached=entry(series, "ab"[days]).rank)
    # Behind the reader, so often that the gaps run out: none of these is owed.
    for number in range(12):
        series.insert(make_issue(publication, str(number)), before=entry(series, "b"))
    for days in range(2, 5):
        planning.tick(MONDAY + days * ONE_DAY)
        Delivery.objects.filter(state=State.PLANNED).update(state=State.SENT)

    rows = Delivery.objects.filter(subscriber=alice).order_by("local_date").select_related("issue")
    assert [row.issue.subject if row.issue else "" for row in rows] == ["a", "b", "c", "d", ""]


def test_an_issue_skipped_has_the_date_after(daily: Series) -> None:
    queue.skip(entry(daily, "a"), MONDAY - ONE_DAY)

    assert order(daily) == "bacd"


def test_an_issue_alone_that_is_skipped_leaves_its_date_dry(daily: Series) -> None:
    Entry.objects.exclude(issue__subject="a").delete()

    queue.skip(entry(daily, "a"), MONDAY - ONE_DAY)

    assert [row[1] and row[1].subject for row in islice(to_come(daily), 3)] == [None, "a", None]


def test_an_issue_that_has_no_date_coming_is_not_skipped(daily: Series) -> None:
    Issue.objects.filter(subject="d").update(state=Issue.State.READY)

    queue.skip(entry(daily, "d"), MONDAY - ONE_DAY)

    assert order(daily) == "abcd"
    assert entry(daily, "d").pinned_date is None


def test_a_pinned_issue_that_is_skipped_keeps_off_the_dates_of_others(daily: Series) -> None:
    Entry.objects.filter(issue__subject="c").update(pinned_date=date(2026, 11, 23))
    Entry.objects.filter(issue__subject="d").update(pinned_date=date(2026, 11, 24))

    queue.skip(entry(daily, "c"), MONDAY - ONE_DAY)

    assert [row[1] and row[1].subject for row in islice(to_come(daily), 4)] == ["a", "d", "c", "b"]


def to_come(series: Series) -> Iterator[tuple[date, Issue | None, str]]:
    return queue.forecast(series.publication, date(2026, 11, 22))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12))
def test_any_moves_end_as_they_would_in_a_list(daily: Series, moves: list[tuple[int, int]]) -> None:
    expected = list(order(daily))
    for which, where in moves:
        subject = sorted(expected)[which]
        before = sorted(expected)[where] if where < 4 else None
        if before == subject:
            continue
        daily.move(entry(daily, subject), before=entry(daily, before) if before else None)
        expected.remove(subject)
        expected.insert(expected.index(before) if before else len(expected), subject)

    assert order(daily) == "".join(expected)


def edit(number: int, series: int, start: object) -> None:
    """Be one of two editors, in a process of its own: append, insert before the first, and move about."""
    import django

    django.setup()
    connection.close()
    own = Series.objects.get(pk=series)
    start.wait()  # type: ignore[attr-defined]
    for turn in range(15):
        issue = Issue.objects.get(subject=f"{number}-{turn}")
        first = own.entries.order_by("rank", "pk").first()
        added = own.insert(issue, before=first if turn % 2 else None)
        own.move(added, before=own.entries.order_by("-rank").first())
    connection.close()


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_two_editors_at_once_lose_no_entry(publication: Publication) -> None:
    series = make_series(publication, Series.Kind.DAILY, "abcd")
    for number in (1, 2):
        for turn in range(15):
            make_issue(publication, f"{number}-{turn}")
    processes = multiprocessing.get_context("fork")
    start = processes.Barrier(2)
    connection.close()

    editors = [processes.Process(target=edit, args=(number, series.pk, start)) for number in (1, 2)]
    for editor in editors:
        editor.start()
    for editor in editors:
        editor.join(60)

    assert [editor.exitcode for editor in editors] == [0, 0]
    entries = list(series.entries.order_by("rank", "pk"))
    assert len(entries) == 34
    assert len({one.rank for one in entries}) == 34
    kept = series.entries.filter(issue__subject__in="abcd").order_by("rank", "pk")
    assert list(kept.values_list("issue__subject", flat=True)) == list("abcd")
