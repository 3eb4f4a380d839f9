"""The alarm of a low runway: at seven, three and one days, once a level, with what is at hand."""

import pytest

from newsletters import alarms
from newsletters.models import Alarm, Issue, Publication, Series
from tests.conftest import Reader
from tests.test_planning import make_issue
from tests.watch import HOUR, MINUTE, ONE_DAY, SUNDAY_NOON, causes


def run_low(publication: Publication, issues: int) -> None:
    queued = list(Issue.objects.filter(entries__series__kind=Series.Kind.DAILY).order_by("pk"))
    Issue.objects.filter(pk__in=[issue.pk for issue in queued[issues:]]).update(state=Issue.State.DRAFT)


@pytest.mark.parametrize(
    ("issues", "cause"),
    [(8, None), (7, "runway_7"), (4, "runway_7"), (3, "runway_3"), (1, "runway_1"), (0, "runway_1")],
)
def test_the_runway_falls_to_seven_three_and_one(
    publication: Publication, twenty: Series, reader: Reader, issues: int, cause: str | None
) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, issues)

    alarms.look_ahead(publication, SUNDAY_NOON - 6 * HOUR)

    assert causes() == ([(cause, False)] if cause else [])


def test_a_low_runway_names_what_is_at_hand(publication: Publication, twenty: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    reader("bob@example.com", now=SUNDAY_NOON)
    run_low(publication, 3)
    Issue.objects.filter(state=Issue.State.DRAFT, subject__gt="d4").delete()
    reserve = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    reserve.append(make_issue(publication, "r1"))

    alarms.look_ahead(publication, SUNDAY_NOON - 6 * HOUR)

    text = Alarm.objects.get().text
    assert text.startswith("3 days ahead are covered.\n\n2 readers run dry on Wednesday 25 November.")
    assert "drafts are not queued: “d" in text
    assert "The reserve holds 1 issue." in text
    assert text.count("/desk/pas/#todo") == 2
    assert "/desk/pas/break/" in text


def test_a_low_runway_is_told_once_a_level_and_over_when_covered(
    publication: Publication, twenty: Series, reader: Reader
) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, 6)
    for days in (0, 1):
        alarms.look_ahead(publication, SUNDAY_NOON - 6 * HOUR + days * ONE_DAY)
    run_low(publication, 3)
    alarms.look_ahead(publication, SUNDAY_NOON)
    low = causes()

    Issue.objects.update(state=Issue.State.QUEUED)
    alarms.look_ahead(publication, SUNDAY_NOON)

    assert low == [("runway_7", False), ("runway_3", False)]
    assert causes() == [("runway_7", True), ("runway_3", True)]


def test_the_last_level_comes_again_each_day(publication: Publication, twenty: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, 0)

    for hours in (0, 1, 24, 48):
        alarms.look_ahead(publication, SUNDAY_NOON + hours * HOUR)

    assert [alarm.date.day for alarm in Alarm.objects.order_by("date")] == [22, 23, 24]


def test_nobody_is_told_of_a_queue_that_nobody_reads(publication: Publication) -> None:
    alarms.look_ahead(publication, SUNDAY_NOON)

    assert causes() == []


def test_each_publication_has_its_turn_within_the_hour(
    publication: Publication, twenty: Series, reader: Reader
) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, 2)

    for minutes in range(0, 60, 10):
        alarms.go_round(SUNDAY_NOON + minutes * MINUTE)

    assert causes() == [("runway_3", False)]


def test_an_alarm_is_told_in_the_publications_language(
    publication: Publication, twenty: Series, reader: Reader
) -> None:
    Publication.objects.update(language="fr")
    reader(now=SUNDAY_NOON)
    run_low(publication, 3)

    alarms.look_ahead(Publication.objects.get(), SUNDAY_NOON - 6 * HOUR)

    assert "mercredi 25 novembre" in Alarm.objects.get().text
