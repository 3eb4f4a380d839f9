"""Who gets which issue on a local date, and why: one SELECT, for the planner, the rehearsal and the timeline alike.

It gives one row a reader: (subscriber_id, entry_id, issue_id, way, moved). `way` is sequence, daily, reserve or none:
each is asked only where the one before had nothing. The same text serves PostgreSQL and SQLite. It computes no zones
and reads no clock: instants are given.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection

# A promise so soon after the last hand-off, because the reader changed zone, is skipped.
TOO_SOON = timedelta(hours=12)
# Late in the day at one end of the earth, the date after next is hours away at the other.
NEAR = {"two_days_before": -2, "day_before": -1, "date": 0, "day_after": 1, "two_days_after": 2}

OF_A_ZONE = "publication_id = %(publication)s AND zone = %(zone)s"
OF_ONE = "id = %(subscriber)s"

# Where the history, a walk's progress and the readers are read: the timeline puts its assumptions over them.
PAST = "newsletters_delivery"
REACHED = "walk.reached"
ACTIVE = "status = 'active'"
MAILABLE = f"newsletters_subscriber WHERE {ACTIVE}"

# NOT IN, which PostgreSQL computes once and looks up in a hash; a join would be asked for each reader anew.
QUEUED = """entry.issue_id NOT IN (
        SELECT id FROM newsletters_issue WHERE publication_id = %(publication)s AND state <> 'queued')"""


def had(issue: str, past: str = PAST, awaited: str = "> 0") -> str:
    """Return the SQL condition: this reader had, within this membership, an issue that holds a text of this one.

    So counts what is still to go out in the slots `awaited`: of itself the announcements, beside the daily email.
    """
    # Scalar subqueries, because it is asked of one issue after another until one was not had: PostgreSQL would turn
    # an EXISTS into a join and read everybody's history. Few issues share a text; most are found by themselves.
    return f"""((
        SELECT 1 FROM {past} past
        WHERE past.issue_id = {issue} AND past.subscriber_id = reader.id
            AND {arrived("past", awaited)} LIMIT 1) IS NOT NULL
        OR {issue} IN (
            SELECT mine.issue_id FROM newsletters_text text
            JOIN newsletters_issuetext mine ON mine.text_id = text.id
            JOIN newsletters_issuetext same ON same.text_id = text.id AND same.issue_id <> mine.issue_id
            WHERE text.publication_id = %(publication)s)
        AND (
            SELECT 1 FROM newsletters_issuetext mine
            JOIN newsletters_issuetext same ON same.text_id = mine.text_id
            JOIN {past} past ON past.issue_id = same.issue_id AND past.subscriber_id = reader.id
            WHERE mine.issue_id = {issue} AND {arrived("past", awaited)} LIMIT 1) IS NOT NULL)"""


def arrived(past: str, awaited: str = "> 0") -> str:
    """Return the SQL condition: a row of the past counts as had by this reader, within this membership."""
    return f"""({past}.state IN ('handoff', 'sent', 'uncertain')
            OR {past}.slot {awaited} AND {past}.state IN ('planned', 'leased', 'retry'))
            AND {past}.due_at >= reader.member_since"""


def readers(which: str, mailable: str = MAILABLE) -> str:
    """Return the SELECT of the readers who are promised an email on this date.

    With days of their own, or a weekly digest, others promised dates are none of theirs.
    """
    return f"""
        SELECT id, member_since, moved_at, digest_on FROM {mailable} AND {which} AND member_since <= %(due_at)s
          AND (weekdays = '' OR weekdays LIKE %(like)s)
          AND (digest_on IS NULL OR digest_on = %(weekday)s)"""


def steps(past: str = PAST, reached: str = REACHED) -> str:
    """Return the FROM and WHERE of what a reader's sequences still owe: queued, not had, ahead or moved behind them."""
    return f"""
        FROM newsletters_walk walk
        JOIN newsletters_entry entry ON entry.series_id = walk.series_id
        JOIN newsletters_issue issue ON issue.id = entry.issue_id AND issue.state = 'queued'
        WHERE walk.subscriber_id = reader.id AND walk.ended_at IS NULL AND {ahead(reached)}
            AND NOT {had("entry.issue_id", past)}"""


def ahead(reached: str = REACHED) -> str:
    """Return the SQL condition: an entry stands ahead of a walk, or was there when it began and was moved since."""
    return f"(entry.rank > {reached} OR entry.added_at <= walk.started_at AND entry.placed_at > walk.started_at)"


def first(series: str, past: str, condition: str = "true") -> str:
    """Return the SELECT of a series' first queued entry that this reader has not had."""
    return f"""
        SELECT entry.id FROM newsletters_entry entry
        WHERE entry.series_id = {series} AND {condition} AND {QUEUED} AND NOT {had("entry.issue_id", past)}
        ORDER BY entry.rank, entry.id LIMIT 1"""


def too_soon(reader: str, past: str = PAST) -> str:
    """Return the SQL condition: this reader changed zone, and the last hand-off is less than 12 hours ago.

    What was planned in the zone they left, and may still be handed off, counts as well.
    """
    return f"""({reader}.moved_at > %(moved_after)s AND EXISTS (
        SELECT 1 FROM {past} past
        WHERE past.subscriber_id = {reader}.id AND past.slot = 0
          AND past.local_date IN ({", ".join(f"%({name})s" for name in NEAR)})
          AND (past.state IN ('handoff', 'sent', 'uncertain') AND past.handoff_at > %(too_soon)s
               OR past.state IN ('planned', 'leased', 'retry') AND past.late_until > %(due_at)s)))"""


def select(which: str, past: str = PAST, reached: str = REACHED, mailable: str = MAILABLE) -> str:
    """Return the SELECT. Each stage is materialised and asks only for the readers whom those before left over."""
    return f"""
    WITH reader AS MATERIALIZED ({readers(which, mailable)}
    ), walked AS MATERIALIZED (
        SELECT reader.id, walk.position, walk.id AS walk_id,
            ({first("walk.series_id", past, ahead(reached))}) AS entry_id
        FROM reader JOIN newsletters_walk walk ON walk.subscriber_id = reader.id AND walk.ended_at IS NULL
    ), step AS MATERIALIZED (
        SELECT id, entry_id FROM (
            SELECT id, entry_id, ROW_NUMBER() OVER (PARTITION BY id ORDER BY position, walk_id) AS turn
            FROM walked WHERE entry_id IS NOT NULL) owed
        WHERE turn = 1
    ), had_daily AS MATERIALIZED (
        SELECT DISTINCT reader.id FROM (
            SELECT CAST(%(daily)s AS bigint) AS issue_id UNION
            SELECT same.issue_id FROM newsletters_issuetext mine
            JOIN newsletters_issuetext same ON same.text_id = mine.text_id WHERE mine.issue_id = %(daily)s) daily
        JOIN {past} past ON past.issue_id = daily.issue_id
        JOIN reader ON reader.id = past.subscriber_id
        WHERE {arrived("past")}
    ), reserve AS MATERIALIZED (
        SELECT id FROM newsletters_series WHERE publication_id = %(publication)s AND kind = 'reserve'
    ), choice AS MATERIALIZED (
        SELECT reader.id, step.entry_id,
            CASE WHEN step.id IS NULL AND had_daily.id IS NULL THEN CAST(%(daily)s AS bigint) END AS daily_id,
            CASE WHEN step.id IS NULL AND (had_daily.id IS NOT NULL OR CAST(%(daily)s AS bigint) IS NULL)
            THEN ({first("(SELECT id FROM reserve)", past)}) END AS reserve_id
        FROM reader
        LEFT JOIN step ON step.id = reader.id
        LEFT JOIN had_daily ON had_daily.id = reader.id
    ), moved AS MATERIALIZED (
        SELECT id FROM reader WHERE {too_soon("reader", past)}
    )
    SELECT choice.id AS subscriber_id, entry.id AS entry_id, COALESCE(choice.daily_id, entry.issue_id) AS issue_id,
        CASE WHEN choice.daily_id IS NOT NULL THEN 'daily' WHEN choice.entry_id IS NOT NULL THEN 'sequence'
             WHEN choice.reserve_id IS NOT NULL THEN 'reserve' ELSE 'none' END AS way,
        CASE WHEN moved.id IS NULL THEN 0 ELSE 1 END AS moved
    FROM choice
    LEFT JOIN newsletters_entry entry ON entry.id = COALESCE(choice.entry_id, choice.reserve_id)
    LEFT JOIN moved ON moved.id = choice.id
    """


def values(publication: int, day: date, due_at: datetime, daily: int | None) -> dict[str, Any]:
    """Return the parameters of the SELECT, in the database's own forms, but for those of `which`."""
    dates = {name: day + timedelta(days=days) for name, days in NEAR.items()}
    instants = {"due_at": due_at, "too_soon": due_at - TOO_SOON, "moved_after": due_at - timedelta(days=2)}
    adapted: dict[str, Any] = {name: connection.ops.adapt_datefield_value(value) for name, value in dates.items()}
    adapted |= {name: connection.ops.adapt_datetimefield_value(value) for name, value in instants.items()}
    weekday = day.isoweekday()
    return adapted | {"publication": publication, "daily": daily, "weekday": weekday, "like": f"%{weekday}%"}


def execute(statement: str, parameters: Mapping[str, Any]) -> int:
    """Run a statement and return how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def fetch(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
