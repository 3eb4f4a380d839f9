"""Two questions a supervisor asks: does the process answer, and can it do its work?"""

import sys
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.defaults import server_error
from redis import Redis, RedisError

from newsletters.models import Heartbeat

# The tick comes twice a minute; longer than this without one, nobody sends.
QUIET = timedelta(minutes=3)


def alive(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def ready(request: HttpRequest) -> HttpResponse:
    """Answer 200 when all is well, 503 otherwise; a line for each part says which."""
    faults = {check.__name__: check() for check in (database, broker, tick)}
    lines = [f"{name}: {fault or 'ok'}\n" for name, fault in faults.items()]
    status = 503 if any(faults.values()) else 200
    return HttpResponse("".join(lines), status=status, content_type="text/plain")


def failed(request: HttpRequest) -> HttpResponse:
    """Answer for a failure of ours. A database that is away will be back: whoever asked may ask again."""
    response = server_error(request)
    if isinstance(sys.exc_info()[1], OperationalError):
        response.status_code = 503
        response["Retry-After"] = "60"
    return response


def database() -> str:
    """Return what is wrong with the database, or nothing."""
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return "cannot be reached"
    return f"{len(waiting)} migrations are not applied" if waiting else ""


def broker() -> str:
    """Return what is wrong with the broker, or nothing. The file broker is a folder, checked at the start."""
    if not settings.REDIS_URL:
        return ""
    try:
        with Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as redis:
            redis.ping()
    except RedisError:
        return "cannot be reached"
    return ""


def tick() -> str:
    """Return how long the worker has been silent, where it is too long; one that never ticked is only starting."""
    try:
        last = Heartbeat.objects.filter(name="tick").values_list("at", flat=True).first()
    except DatabaseError:
        return "unknown"
    silence = timezone.now() - last if last else timedelta()
    return f"none for {int(silence.total_seconds())} seconds" if silence > QUIET else ""
