"""Every setting, read once from the environment; docs/configuration.md lists them."""

import ipaddress
import os
import re
import sys
import zoneinfo
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from funnel import keys
from newsletters import destinations, mailbox_url
from newsletters.transports import TransportURLError, check_url

# A system's zone files may be a year old; only the pinned tzdata package counts.
zoneinfo.reset_tzpath(())


def refuse(name: str, why: object) -> NoReturn:
    sys.exit(f"{name} {why}")


def flag(name: str, default: bool) -> bool:
    value = os.environ.get(name, str(default)).lower()
    if value not in {"1", "0", "true", "false", "yes", "no"}:
        refuse(name, f"is {value!r}; give 1 or 0.")
    return value in {"1", "true", "yes"}


def words(name: str) -> list[str]:
    return [word for word in os.environ.get(name, "").replace(",", " ").split() if word]


BASE_DIR = Path(__file__).resolve().parent.parent

# Where everything lives that is not in the database
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR / "var").resolve()
try:
    for folder in ("media", "letterbox", "broker/queue", "broker/control", "logs"):
        (DATA_DIR / folder).mkdir(parents=True, exist_ok=True)
    KEYS = keys.load(DATA_DIR / "keys")
except (OSError, ValueError, KeyError) as error:
    refuse("DATA_DIR", f"({DATA_DIR}) cannot be used: {error}. Give a folder this user may write.")

SECRET_KEY = os.environ.get("SECRET_KEY") or KEYS.secret
DEBUG = flag("DEBUG", False)

# Addresses
PORT = os.environ.get("PORT", "8000")
if not PORT.isdigit() or not 0 < int(PORT) < 65536:
    refuse("PORT", f"is {PORT!r}; give a number from 1 to 65535.")
BASE_URL = os.environ.get("BASE_URL", f"http://localhost:{PORT}").rstrip("/")
if urlsplit(BASE_URL).scheme not in {"http", "https"} or not urlsplit(BASE_URL).hostname:
    refuse("BASE_URL", f"is {BASE_URL!r}; give the public address, such as https://letters.example.com.")
if not BASE_URL.isascii():
    # Headers such as List-Unsubscribe take nothing else (RFC 3986).
    refuse("BASE_URL", f"is {BASE_URL!r}; write it in ASCII, a host such as é.example as xn--9ca.example.")
# HostMiddleware answers 404 for a host that is neither one of these nor a publication's own.
KNOWN_HOSTS = {urlsplit(BASE_URL).hostname, "localhost", "127.0.0.1", *words("ALLOWED_HOSTS")}
ALLOWED_HOSTS = ["*"]
try:
    TRUSTED_PROXIES = [ipaddress.ip_network(word) for word in words("TRUSTED_PROXIES")]
except ValueError as error:
    refuse("TRUSTED_PROXIES", f"holds what is no network: {error}.")
HTTPS = BASE_URL.startswith("https://")
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# With "no-referrer" browsers post "Origin: null", which the login's CSRF check refuses; token pages say it themselves.
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

# Mail
MAIL_URL = os.environ.get("MAIL_URL", "letterbox:")
try:
    check_url(MAIL_URL)
except TransportURLError as error:
    refuse("MAIL_URL", str(error))
ANYMAIL = {name.removeprefix("ANYMAIL_"): value for name, value in os.environ.items() if name.startswith("ANYMAIL_")}

BOUNCE_MAILBOX = os.environ.get("BOUNCE_MAILBOX", "")
try:
    box = mailbox_url.parse(BOUNCE_MAILBOX) if BOUNCE_MAILBOX else None
except mailbox_url.MailboxURLError as error:
    refuse("BOUNCE_MAILBOX", str(error))
BOUNCE_ADDRESS = os.environ.get("BOUNCE_ADDRESS", box.user if box and "@" in box.user else "")
# With "+" and the 50 characters of a token, a local part has at most 64 (RFC 5321 section 4.5.3.1.1).
if BOUNCE_ADDRESS and not re.fullmatch(r"[A-Za-z0-9._-]{1,13}@[A-Za-z0-9.-]+", BOUNCE_ADDRESS):
    refuse("BOUNCE_ADDRESS", f"is {BOUNCE_ADDRESS!r}; give an address of at most 13 letters before its @.")
if BOUNCE_MAILBOX and not BOUNCE_ADDRESS:
    refuse(
        "BOUNCE_ADDRESS",
        "is missing; give the address whose mail, with + and more behind its name, comes to BOUNCE_MAILBOX.",
    )

# Alarms
ALERT_URLS = os.environ.get("ALERT_URLS", "").split()
for url in ALERT_URLS:
    if destinations.opened(url) is None:
        refuse("ALERT_URLS", f"holds an address of no known kind: {url.partition(':')[0]}. Give mailto://…, ntfy://….")
HEARTBEAT_URL = os.environ.get("HEARTBEAT_URL", "")
if HEARTBEAT_URL and (urlsplit(HEARTBEAT_URL).scheme not in {"http", "https"} or not urlsplit(HEARTBEAT_URL).hostname):
    refuse("HEARTBEAT_URL", f"is {HEARTBEAT_URL!r}; give an address such as https://hc-ping.com/UUID.")

# Database
DATABASE_URL = os.environ.get("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'db.sqlite3'}"
try:
    database: dict[str, Any] = dict(dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True))
except (ValueError, ImproperlyConfigured):
    refuse("DATABASE_URL", "cannot be read. Give sqlite:///FILE or postgres://USER:PASSWORD@HOST:PORT/NAME.")
if database.get("ENGINE") == "django.db.backends.sqlite3":
    database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        # FULL, because a hand-off that a power cut takes back would be sent twice.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
elif database.get("ENGINE") == "django.db.backends.postgresql":
    # A host that vanished, or a process stopped in its sleep, must neither wait for hours nor keep others waiting.
    patience: dict[str, Any] = {
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    patience |= {"tcp_user_timeout": 60_000, "options": "-c idle_in_transaction_session_timeout=2min"}
    database["OPTIONS"] = patience | database.get("OPTIONS", {})
else:
    refuse("DATABASE_URL", "names neither SQLite nor PostgreSQL; no other database is supported.")
DATABASES = {"default": database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Jobs: the broker only carries wake-ups, so any of them may be lost
REDIS_URL = os.environ.get("REDIS_URL", "")
if REDIS_URL and urlsplit(REDIS_URL).scheme not in {"redis", "rediss", "unix"}:
    refuse("REDIS_URL", "is no Redis address; give redis://HOST:PORT/0.")
CELERY_BROKER_URL = REDIS_URL or "filesystem://localhost"
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {
        "visibility_timeout": 900,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    }
    if REDIS_URL
    else {
        # kombu polls a folder once a second by default; a newcomer waits for the confirmation mail.
        "polling_interval": 0.1,
        "data_folder_in": str(DATA_DIR / "broker/queue"),
        "data_folder_out": str(DATA_DIR / "broker/queue"),
        "control_folder": str(DATA_DIR / "broker/control"),
    }
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# With the broker down, a page must still answer: the wake-up is dropped and the next tick sees the row.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"
CELERY_BEAT_SCHEDULE = {
    "tick": {"task": "newsletters.tasks.tick", "schedule": 30, "options": {"expires": 30}},
    "rehearse": {"task": "newsletters.tasks.rehearse", "schedule": 300, "options": {"expires": 300}},
    "choose": {"task": "newsletters.tasks.choose", "schedule": 60, "options": {"expires": 60}},
    "collect": {"task": "newsletters.tasks.collect", "schedule": 150, "options": {"expires": 150}},
    "answer": {"task": "optin.tasks.answer", "schedule": 30, "options": {"expires": 30}},
}
CELERY_TIMEZONE = "UTC"

# Django
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "anymail",
    "newsletters",
    "optin",
    "desk",
]
MIDDLEWARE = [
    "funnel.middleware.proxy",
    "funnel.middleware.host",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "funnel.urls"
WSGI_APPLICATION = "funnel.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "desk:login"
LOGIN_REDIRECT_URL = "desk:rooms"
LOGOUT_REDIRECT_URL = "desk:login"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("fr", _("French"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served from where they lie: no collectstatic, no STATIC_ROOT.
WHITENOISE_USE_FINDERS = True
MEDIA_URL = "/media/"
MEDIA_ROOT = DATA_DIR / "media"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
