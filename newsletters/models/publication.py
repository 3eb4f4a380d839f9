import zoneinfo
from datetime import date, datetime, time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from newsletters import clock, destinations, headers, personal
from newsletters.clock import Promise

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

# The first words of every address that is not a publication's own.
RESERVED_SLUGS = frozenset(
    [
        "accent",
        "admin",
        "api",
        "confirm",
        "data",
        "desk",
        "go",
        "healthz",
        "hooks",
        "leave",
        "letterbox",
        "login",
        "logout",
        "media",
        "metrics",
        "o",
        "reader",
        "readyz",
        "static",
        "favicon.ico",
    ]
)


def known_zone(value: str) -> None:
    if value not in zoneinfo.available_timezones():
        raise ValidationError(
            _("“%(zone)s” is not a time zone. Choose one such as Europe/Paris."), params={"zone": value}
        )


def free_slug(value: str) -> None:
    if value in RESERVED_SLUGS:
        raise ValidationError(_("“%(slug)s” is a word of this site. Choose another."), params={"slug": value})


def promised_weekdays(value: str) -> None:
    if not value or set(value) - set("1234567") or len(set(value)) != len(value):
        raise ValidationError(_("Promise at least one day: digits from 1 (Monday) to 7 (Sunday), each once."))


def one_line(value: str) -> None:
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValidationError(_("Write this on one line, without control characters."))


class PublicationQuerySet(models.QuerySet["Publication"]):
    def for_user(self, user: "AbstractBaseUser | AnonymousUser") -> "PublicationQuerySet":
        """Return the publications this user is a member of: the wall that every query behind a login starts from."""
        return self.filter(members__user_id=user.pk) if user.pk else self.none()


class Publication(models.Model):
    """One author's newsletter and its promise."""

    class Returning(models.TextChoices):
        AGAIN = "again", _("starts again")
        RESUME = "resume", _("goes on where they were")

    class WhenUncertain(models.TextChoices):
        NEVER = "never", _("rather not at all than twice")
        TWICE = "twice", _("rather twice than not at all")

    name = models.CharField(_("name"), max_length=120, validators=[one_line])
    slug = models.SlugField(_("short name in addresses"), unique=True, validators=[free_slug])
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES, default="en")
    zone = models.CharField(_("time zone"), max_length=50, default="Europe/Paris", validators=[known_zone])
    host = models.CharField(
        _("own host"),
        max_length=253,
        blank=True,
        null=True,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9.-]+\Z", _("Give a host name alone, such as letters.example.com."))],
        help_text=_("Links use this host instead of the server's own."),
    )

    author = models.CharField(_("author's name"), max_length=120, validators=[one_line])
    sender = models.EmailField(_("sender's address"), help_text=_("The From address of every mail."))
    reply_to = models.EmailField(_("reply address"), help_text=_("An address that a person reads."))
    postal_address = models.CharField(
        _("postal address"), max_length=250, validators=[one_line], help_text=_("The law asks for it in every mail.")
    )
    tagline = models.CharField(_("tagline"), max_length=200, blank=True, validators=[one_line])
    accent = models.CharField(
        _("accent colour"),
        max_length=7,
        default="#0f5c46",
        validators=[RegexValidator(r"^#[0-9a-f]{6}\Z", _("Give a colour as #rrggbb, in lower case."))],
    )
    privacy = models.TextField(_("privacy page"), blank=True, help_text=_("Markdown; empty for the standard text."))

    hour = models.TimeField(_("promised hour"), default=time(7), help_text=_("In each reader's own time zone."))
    weekdays = models.CharField(_("promised days"), max_length=7, default="1234567", validators=[promised_weekdays])
    late_until = models.TimeField(
        _("late until"), default=time(22), help_text=_("After this hour, the reader's time, a day is missed.")
    )

    returning = models.CharField(_("who comes back"), max_length=6, choices=Returning.choices, default=Returning.AGAIN)
    show_streak = models.BooleanField(
        _("show the days kept"), default=True, help_text=_("On the opt-in page and the badge, from 14 days on.")
    )
    alert_urls = models.TextField(
        _("where alarms go"),
        blank=True,
        validators=[destinations.known],
        help_text=_(
            "One address a line, such as mailto:, tgram: or ntfy: (Apprise). Not only by the way mail goes out."
        ),
    )

    when_uncertain = models.CharField(
        _("where nobody knows whether an email arrived"),
        max_length=5,
        choices=WhenUncertain.choices,
        default=WhenUncertain.NEVER,
    )

    greeting = models.CharField(
        _("greeting"),
        max_length=120,
        blank=True,
        help_text=_("First line of each issue, for example: Hello {{ first_name|there }},"),
    )
    sign_off = models.TextField(_("sign-off"), blank=True)
    action = models.TextField(
        _("call to action"), blank=True, help_text=_("Markdown, added when an article becomes an issue.")
    )
    postscript = models.TextField(
        _("P.S."), blank=True, help_text=_("Markdown, added when an article becomes an issue.")
    )

    created_at = models.DateTimeField(auto_now_add=True)

    objects = PublicationQuerySet.as_manager()

    class Meta:
        verbose_name = _("publication")
        verbose_name_plural = _("publications")

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        self.host = self.host or None
        if self.host in settings.KNOWN_HOSTS:
            raise ValidationError({"host": _("This is the server's own host already. Leave the field empty.")})
        personal.refuse_unknown(self, "greeting", "sign_off", "action", "postscript")
        # A form hands over what it could not read, too.
        if all(isinstance(one, time) for one in (self.hour, self.late_until)) and self.late_until <= self.hour:
            raise ValidationError({"late_until": _("The day ends before its promised hour. Choose a later hour.")})
        known = Publication.objects.filter(pk=self.pk).first() if self.pk else None
        more = set(self.weekdays) - set(known.weekdays) if known else set()
        if more and self.subscribers.filter(status="active").exists():
            text = _("More days are announced a week ahead. Add a change of the promise instead.")
            raise ValidationError({"weekdays": text})

    @cached_property
    def coming(self) -> list[Promise]:
        """What will be promised instead, from later dates on. Read once."""
        changes = [change for change in self.promise_changes.all() if change.applied_at is None]
        return [Promise(change.hour, change.weekdays, change.late_until, change.first) for change in changes]

    @property
    def terms(self) -> list[Promise]:
        return [Promise(self.hour, self.weekdays, self.late_until), *self.coming]

    def promise_on(self, day: date) -> Promise:
        return clock.promise_on(day, self.terms)

    def promise_from(self, first: date, zone: str) -> tuple[date, datetime]:
        """Return the first promised local date from `first` on, with its instant in UTC."""
        return clock.promised_from(first, self.terms, zone)

    def next_promise(self, after: datetime, zone: str) -> tuple[date, datetime]:
        """Return the first promised local date whose instant lies after a moment, with that instant in UTC."""
        day, at = self.promise_from(clock.local_date(after, zone) - clock.ONE_DAY, zone)
        while at <= after:
            day, at = self.promise_from(day + clock.ONE_DAY, zone)
        return day, at

    def window(self, day: date, zone: str) -> tuple[datetime, datetime]:
        """Return when a date's promise falls due, and when it is too late for it, in UTC."""
        promise = self.promise_on(day)
        return clock.window(day, promise.hour, promise.late_until, zone)

    def promises(self, day: date) -> bool:
        return str(day.isoweekday()) in self.weekdays

    @property
    def root(self) -> str:
        """Return the address that every page of this publication begins with, without the last slash."""
        if self.host:
            return f"{urlsplit(settings.BASE_URL).scheme}://{self.host}"
        return f"{settings.BASE_URL}/{self.slug}"

    @property
    def origin(self) -> str:
        """Return the address that token pages (/leave/, /reader/, /confirm/) begin with."""
        return self.root if self.host else settings.BASE_URL

    @property
    def domain(self) -> str:
        """Return the host for Message-ID and List-Id: the sender's, which DKIM aligns with."""
        return headers.addr_spec(self.sender).rpartition("@")[2]


class Member(models.Model):
    """A user with a role in a publication."""

    class Role(models.TextChoices):
        OWNER = "owner", _("owner")
        EDITOR = "editor", _("editor")
        VIEWER = "viewer", _("viewer")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=6, choices=Role.choices, default=Role.OWNER)

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        constraints = [models.UniqueConstraint(fields=["publication", "user"], name="member_once")]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()})"
