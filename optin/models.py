import hashlib
import json
import secrets
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.models import Issue, Publication, Series
from newsletters.models.publication import known_zone, one_line
from optin import pictures


class OptInPage(models.Model):
    """A hosted page that states the promise and takes an address. Empty texts fall back to the standard ones."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="pages")
    slug = models.SlugField(_("short name"))
    main = models.BooleanField(_("main page"), default=False, help_text=_("Shown at the publication's own address."))
    headline = models.CharField(_("headline"), max_length=160, validators=[one_line])
    promise = models.CharField(
        _("promise"),
        max_length=200,
        blank=True,
        help_text=_("Empty: “One email a day, at 7:00, …”, from the promise itself."),
    )
    introduction = models.TextField(_("introduction"), blank=True, help_text=_("Markdown."))
    bullets = models.TextField(_("what it brings"), blank=True, help_text=_("One a line, as “Title: sentence”."))
    image = models.ImageField(_("image"), blank=True, upload_to="pages")
    image_alt = models.CharField(_("what the image shows"), max_length=200, blank=True)
    sample = models.ForeignKey(
        Issue, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("sample issue")
    )
    quote = models.TextField(_("a reader's words"), blank=True)
    quote_by = models.CharField(_("who said so"), max_length=160, blank=True)
    about = models.TextField(_("about the author"), blank=True, help_text=_("Markdown."))
    questions = models.TextField(
        _("questions"), blank=True, help_text=_("Markdown, each question a heading: ## Is it free?")
    )
    button = models.CharField(_("button"), max_length=60, blank=True, validators=[one_line])
    consent = models.TextField(_("consent wording"), blank=True)
    thanks = models.TextField(_("thank-you text"), blank=True, help_text=_("Markdown, shown after confirming."))
    series = models.ForeignKey(
        Series,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        limit_choices_to={"kind": Series.Kind.SEQUENCE},
        verbose_name=_("sequence it starts"),
        help_text=_("Empty: the publication's welcome sequence."),
    )

    class Meta:
        verbose_name = _("opt-in page")
        verbose_name_plural = _("opt-in pages")
        constraints = [
            models.UniqueConstraint(fields=["publication", "slug"], name="page_slug_once"),
            models.UniqueConstraint(fields=["publication"], condition=models.Q(main=True), name="one_main_page"),
        ]

    def __str__(self) -> str:
        return self.headline

    def clean(self) -> None:
        super().clean()
        if self.series and self.series.publication_id != self.publication_id:
            raise ValidationError({"series": _("This sequence belongs to another publication.")})
        if self.series and not self.series.entries.filter(issue__state=Issue.State.QUEUED).exists():
            text = _("This sequence has no queued issue yet. Queue one in it first, then let this page start it.")
            raise ValidationError({"series": text})
        # Only a picture that has just been uploaded: what is stored was drawn anew already.
        if self.image and not self.image._committed:  # type: ignore[attr-defined]
            self.image = pictures.redraw(self.image)


class Consent(models.Model):
    """One line of the append-only consent ledger.

    `commitment` is the SHA-256 of the salt and the personal facts. Whoever seals the ledger seals public facts and
    commitments only, so that erasing the personal facts and the salt breaks no seal.
    """

    class Kind(models.TextChoices):
        REQUEST = "request", _("asked")
        CONFIRM = "confirm", _("confirmed")

    # Public facts
    publication = models.ForeignKey(Publication, models.PROTECT, related_name="consents")
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    purpose = models.CharField(_("purpose"), max_length=20, default="daily")
    wording = models.TextField(_("exact wording"))
    wording_version = models.CharField(_("version"), max_length=12)
    page = models.CharField(_("page"), max_length=300)
    at = models.DateTimeField(_("at"))
    # Personal facts: a keyed hash of the address, a keyed hash of the IP, the browser's name
    reader = models.CharField(_("reader"), max_length=64, blank=True, db_index=True)
    ip_hash = models.CharField(max_length=64, blank=True)
    agent = models.CharField(_("browser"), max_length=300, blank=True)
    salt = models.CharField(max_length=64, blank=True)
    commitment = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consent ledger")
        # The desk asks how many confirmed in each of the last weeks.
        indexes = [
            models.Index(fields=["publication", "at"], condition=models.Q(kind="confirm"), name="consent_confirmed")
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.at:%Y-%m-%d %H:%M}"

    @staticmethod
    def commit_to(salt: str, reader: str, ip_hash: str, agent: str) -> str:
        """Return the commitment: SHA-256, in hex, of the JSON list of salt and personal facts."""
        facts = json.dumps([salt, reader, ip_hash, agent], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(facts.encode()).hexdigest()

    @classmethod
    def record(
        cls,
        publication: Publication,
        kind: str,
        wording: str,
        page: str,
        at: datetime,
        reader: str,
        ip_hash: str,
        agent: str,
    ) -> "Consent":
        """Add one line to the ledger."""
        salt = secrets.token_hex(16)
        return cls.objects.create(
            publication=publication,
            kind=kind,
            wording=wording,
            wording_version=hashlib.sha256(wording.encode()).hexdigest()[:12],
            page=page,
            at=at,
            reader=reader,
            ip_hash=ip_hash,
            agent=agent,
            salt=salt,
            commitment=cls.commit_to(salt, reader, ip_hash, agent),
        )


class Request(models.Model):
    """Someone asked for the emails. Written for every address alike; a worker decides which letter answers it.

    `address_key` is the subscriber's. `address_hash` stands for the mailbox, so that the limits hold for all its
    spellings.
    """

    page = models.ForeignKey(OptInPage, models.CASCADE, related_name="requests")
    consent = models.OneToOneField(Consent, models.PROTECT, related_name="request")
    address = models.EmailField(_("address"), max_length=320)
    address_key = models.CharField(max_length=320)
    address_hash = models.CharField(max_length=64)
    first_name = models.CharField(_("first name"), max_length=80, blank=True)
    zone = models.CharField(_("time zone"), max_length=50, validators=[known_zone])
    network_hash = models.CharField(max_length=64)
    created_at = models.DateTimeField(_("asked"))
    answered_at = models.DateTimeField(_("answered"), null=True, blank=True)
    again_at = models.DateTimeField(_("asked for the mail again"), null=True, blank=True)
    confirmed_at = models.DateTimeField(_("confirmed"), null=True, blank=True)
    cancelled_at = models.DateTimeField(_("“not me”"), null=True, blank=True)
    tries = models.PositiveSmallIntegerField(_("codes tried"), default=0)

    class Meta:
        verbose_name = _("opt-in request")
        verbose_name_plural = _("opt-in requests")
        indexes = [
            # The worker asks for what is unanswered; the guard counts the last hours' requests.
            models.Index(fields=["created_at"], condition=models.Q(answered_at=None), name="request_unanswered"),
            models.Index(fields=["network_hash", "created_at"], name="request_by_network"),
            models.Index(fields=["address_hash", "created_at"], name="request_by_address"),
            models.Index(fields=["page", "created_at"], name="request_by_page"),
            # What nobody confirmed is erased when it grows old.
            models.Index(fields=["created_at"], condition=models.Q(confirmed_at=None), name="request_unconfirmed"),
        ]

    def __str__(self) -> str:
        return f"{self.address} ({self.created_at:%Y-%m-%d %H:%M})"
