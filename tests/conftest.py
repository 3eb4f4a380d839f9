"""A small cast, a place of its own for every test, and real servers to talk to."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Before the settings are read: no test may touch the developer's own place, keys, mail or broker.
PLACE = Path(tempfile.mkdtemp(prefix="funnel-tests-"))
OWN = (
    "ALERT_URLS BASE_URL BOUNCE_ADDRESS BOUNCE_MAILBOX DEBUG HEARTBEAT_URL MAIL_URL PORT REDIS_URL SECRET_KEY"
    " TRUSTED_PROXIES"
)
for name in OWN.split():
    os.environ.pop(name, None)
os.environ |= {"DATA_DIR": str(PLACE), "ALLOWED_HOSTS": "testserver", "DJANGO_SETTINGS_MODULE": "funnel.settings"}

import django
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import translation

from bench.ground import POSTFIX

# A file, as in real life: a database in memory knows no second writer.
django_settings.DATABASES["default"].setdefault("TEST", {})
if django_settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    django_settings.DATABASES["default"]["TEST"]["NAME"] = str(PLACE / "test.sqlite3")
django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
django.setup()

from newsletters import addresses
from newsletters.models import Publication, Subscriber
from optin.models import OptInPage

pytest_plugins = [
    "tests.servers",
    "tests.outbox",
    "tests.mailboxes",
    "tests.browser",
    "tests.visitor",
    "tests.authors",
    "tests.watch",
]

Reader = Callable[..., Subscriber]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if not belongs(item)])
    items[:] = filter(belongs, items)


def belongs(item: pytest.Item) -> bool:
    """Tell whether a test is for this database: what asks none, or has servers of its own, runs beside SQLite alone."""
    if item.get_closest_marker("sqlite" if connection.vendor == "postgresql" else "postgresql"):
        return False
    asks = {"db", "transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    marked = item.get_closest_marker("django_db") or item.get_closest_marker("postgresql")
    return connection.vendor == "sqlite" or bool(asks or marked)


def pytest_unconfigure() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)


@pytest.fixture(autouse=True)
def data_dir(settings: Any, tmp_path: Path) -> Path:
    """Give each test a DATA_DIR of its own."""
    for folder in ("media", "letterbox", "logs"):
        (tmp_path / folder).mkdir()
    settings.DATA_DIR = tmp_path
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path


@pytest.fixture(autouse=True)
def source_language() -> Iterator[None]:
    """Forget the language of the last request, which stays behind in its thread."""
    yield
    translation.deactivate()


@pytest.fixture
def corpora() -> Path | None:
    """Real input beside the repository, where CORPORA names the folder."""
    return Path(os.environ["CORPORA"]).resolve() if os.environ.get("CORPORA") else None


@pytest.fixture
def publication(db: None) -> Publication:
    """Maud writes « Le pas du jour » from Paris, at 7:00."""
    return Publication.objects.create(
        name="Le pas du jour",
        slug="pas",
        language="fr",
        zone="Europe/Paris",
        author="Maud Castéra",
        sender="maud@lepasdujour.example",
        reply_to="maud@lepasdujour.example",
        postal_address="8, rue du Fanal, 64100 Bayonne, France",
    )


@pytest.fixture
def page(publication: Publication) -> OptInPage:
    """The publication's main opt-in page."""
    return OptInPage.objects.create(
        publication=publication,
        slug="accueil",
        main=True,
        headline="Devenez quelqu’un sur qui l’on peut compter.",
        button="Recevoir l’email de demain",
    )


@pytest.fixture
def reader(publication: Publication) -> Reader:
    """Make an active reader: reader(), reader("bob@example.com", zone="America/Montreal", first_name="Bob")."""

    def make(address: str = "alice@example.com", **columns: Any) -> Subscriber:
        start, now = columns.pop("start", True), columns.pop("now", datetime.now(UTC))
        of, typed = columns.pop("publication", publication), addresses.normalise(address)
        columns = {"zone": of.zone, "language": of.language} | columns
        made = Subscriber.objects.create(
            publication=of, address=typed.address, address_key=typed.key, address_hash=typed.hash, **columns
        )
        if start:
            made.start(now, of.series.filter(welcome=True).first())
        return made

    return make


@pytest.fixture
def smtp_sink() -> None:
    """What drills and benches send to."""
    if shutil.which("smtp-sink", path=POSTFIX) is None:
        pytest.skip("no smtp-sink: apt-get install --no-install-recommends postfix")
