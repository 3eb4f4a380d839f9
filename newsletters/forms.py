from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.dates import WEEKDAYS
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from newsletters import addresses, clock, dates, zones
from newsletters.models import Subscriber
from newsletters.models.publication import one_line

LONGEST_PAUSE = timedelta(days=365)
USUAL_PAUSE = timedelta(days=21)


class PauseForm(forms.Form):
    """Until when nothing is sent: from tomorrow to a year from now, where the reader lives."""

    until = forms.DateField(
        label=_("Start again on"), widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )

    def __init__(self, reader: Subscriber, now: datetime, data: Any = None) -> None:
        today = clock.local_date(now, reader.zone)
        self.first, self.last = today + timedelta(days=1), today + LONGEST_PAUSE
        super().__init__(data, initial={"until": reader.paused_until or today + USUAL_PAUSE})
        self.fields["until"].widget.attrs |= {"min": self.first.isoformat(), "max": self.last.isoformat()}

    def clean_until(self) -> date:
        until: date = self.cleaned_data["until"]
        if not self.first <= until <= self.last:
            first, last = (dates.full_date(day, get_language() or "en") for day in (self.first, self.last))
            raise ValidationError(
                _("Choose a date from %(first)s to %(last)s."), params={"first": first, "last": last}, code="range"
            )
        return until


class WeekdayField(forms.TypedChoiceField):
    """A promised weekday, from 1 (Monday) to 7, on which a week's issues come in one email."""

    def __init__(self) -> None:
        super().__init__(label=_("On"), coerce=int, empty_value=None)

    def offer(self, reader: Subscriber) -> int:
        """Offer the days that are promised now, and return the reader's own, else Sunday, else the last."""
        days = sorted(int(digit) for digit in reader.publication.weekdays)
        self.choices = [(day, WEEKDAYS[day - 1]) for day in days]
        return reader.digest_on if reader.digest_on in days else days[-1]


class DigestForm(forms.Form):
    weekday = WeekdayField()

    def __init__(self, reader: Subscriber, data: Any = None) -> None:
        super().__init__(data)
        weekday = self.fields["weekday"]
        assert isinstance(weekday, WeekdayField)
        self.initial["weekday"] = weekday.offer(reader)


class PaceForm(PauseForm):
    """The choices of the reader page: every day, days of one's own, once a week or a pause, and where one lives."""

    DAILY, OWN, WEEKLY, PAUSE = "daily", "own", "weekly", "pause"
    pace = forms.ChoiceField()
    weekday = WeekdayField()
    zone = forms.ChoiceField(label=_("Where you live"))

    def __init__(self, reader: Subscriber, now: datetime, data: Any = None) -> None:
        super().__init__(reader, now, data)
        pace, weekday, zone = (self.fields[name] for name in ("pace", "weekday", "zone"))
        assert isinstance(pace, forms.ChoiceField)
        assert isinstance(weekday, WeekdayField)
        assert isinstance(zone, forms.ChoiceField)
        self.paces = self.choices_of(reader)
        pace.choices = [(choice, "") for choice in self.paces]
        zone.choices = zones.choices(now, reader.zone, reader.publication.zone)
        self.initial["weekday"] = weekday.offer(reader)
        self.initial["pace"], self.initial["zone"] = self.pace_of(reader), reader.zone
        # The date counts only with a pause, the weekday only with a digest.
        self.fields["until"].required = self.data.get("pace") == self.PAUSE
        weekday.required = self.data.get("pace") == self.WEEKLY

    def choices_of(self, reader: Subscriber) -> list[str]:
        own = [self.OWN] if reader.weekdays else []
        weekly = [self.WEEKLY] if len(reader.publication.weekdays) > 1 else []
        return [self.DAILY, *own, *weekly, self.PAUSE]

    def pace_of(self, reader: Subscriber) -> str:
        if reader.status == Subscriber.Status.PAUSED:
            return self.PAUSE
        if reader.digest_on:
            return self.WEEKLY
        return self.OWN if reader.weekdays else self.DAILY

    def clean_until(self) -> date:
        return super().clean_until() if self.data.get("pace") == self.PAUSE else self.first


class NameForm(forms.Form):
    first_name = forms.CharField(label=_("First name"), max_length=80, required=False, validators=[one_line])


class AddressForm(forms.Form):
    """A new address; `cleaned_data["email"]` is an addresses.Address."""

    email = forms.CharField(
        label=_("New address"), max_length=320, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )

    def clean_email(self) -> addresses.Address:
        return addresses.normalise(self.cleaned_data["email"])


class EraseForm(forms.Form):
    sure = forms.BooleanField(
        label=_("Yes, erase everything"), error_messages={"required": _("Tick the box to say that you are sure.")}
    )
