"""What waits is found by its index, however long the history grows."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet

from newsletters.models import Delivery, Letter
from newsletters.models.outgoing import WAITING

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


def way(rows: QuerySet[Any]) -> str:
    """Return how the database means to find these rows."""
    return rows.values("pk").order_by().explain()


@pytest.mark.django_db
@pytest.mark.parametrize("table", [Delivery, Letter])
def test_what_is_due_or_held_is_found_by_its_index(table: type[Any]) -> None:
    name = table._meta.model_name
    with connection.cursor() as cursor:
        # With a handful of rows PostgreSQL would rather read them all.
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")

    assert f"{name}_waiting" in way(table.objects.due(NOW))
    assert f"{name}_waiting" in way(table.objects.filter(state__in=WAITING, late_until__lte=NOW))
    assert f"{name}_held" in way(table.objects.abandoned())
    assert f"{name}_held" in way(table.objects.in_doubt())
