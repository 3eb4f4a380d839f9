from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext_lazy as _

from newsletters.models import Break, Issue, PromiseChange, Publication

LARGEST = 20_000_000


class BreakForm(forms.Form):
    first = forms.DateField(label=_("First day without email"), widget=forms.DateInput(attrs={"type": "date"}))
    last = forms.DateField(label=_("Last day without email"), widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, publication: Publication, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.publication = publication

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "first" in cleaned and "last" in cleaned:
            self.rest = Break(publication=self.publication, kind=Break.Kind.SILENCE, **cleaned)
            self.rest.full_clean()
        return cleaned


class PromiseForm(forms.ModelForm):  # type: ignore[type-arg]
    """Another hour or other weekdays, from a date on; the instance knows its publication."""

    weekdays = forms.MultipleChoiceField(
        label=_("On these days"),
        choices=[(str(number + 1), name) for number, name in WEEKDAYS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Promise at least one day.")},
    )

    class Meta:
        model = PromiseChange
        fields = ["weekdays", "hour", "late_until", "first"]
        labels = {"hour": _("Hour, where each reader lives"), "late_until": _("Late until"), "first": _("Starting on")}
        widgets = {
            "hour": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "late_until": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "first": forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        }

    def clean_weekdays(self) -> str:
        return "".join(sorted(self.cleaned_data["weekdays"]))

    def clean_first(self) -> date:
        first: date = self.cleaned_data["first"]
        if PromiseChange.objects.filter(publication=self.instance.publication, first=first).exists():
            raise ValidationError(_("Another change begins on this day. Take that one back, or choose another day."))
        return first


class ImportForm(forms.Form):
    """Where the articles come from, and where their issues go."""

    PLACES = [
        ("sequence", _("In a sequence: every new reader receives them from the first one on.")),
        ("daily", _("In the daily queue: everyone receives the same one on the same day.")),
    ]
    WAYS = [
        (Issue.Cut.WHOLE, _("Each article is one email.")),
        (Issue.Cut.PARTS, _("Long articles are cut into parts, one a day.")),
    ]

    address = forms.URLField(
        label=_("Address of your blog, or of its feed"),
        required=False,
        assume_scheme="https",
        widget=forms.URLInput(attrs={"placeholder": "https://", "autocomplete": "url"}),
    )
    file = forms.FileField(
        label=_("Or a file"),
        required=False,
        help_text=_("feed.xml, a WordPress export, Markdown or plain text"),
    )
    place = forms.ChoiceField(
        label=_("Where the emails go"), choices=PLACES, initial="sequence", widget=forms.RadioSelect
    )
    way = forms.ChoiceField(
        label=_("How an article becomes emails"), choices=WAYS, initial=Issue.Cut.WHOLE, widget=forms.RadioSelect
    )

    def clean_file(self) -> "UploadedFile[Any] | None":
        file: UploadedFile[Any] | None = self.cleaned_data["file"]
        if file and (file.size or 0) > LARGEST:
            raise ValidationError(_("This file is larger than 20 MB. Cut it into several, or give the blog’s address."))
        return file

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors and not cleaned.get("address") and not cleaned.get("file"):
            self.add_error("address", _("Give the address of your blog, or choose a file."))
        return cleaned
