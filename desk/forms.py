from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

from newsletters.models import Break, Issue, Publication

LARGEST = 20_000_000


class LoginForm(AuthenticationForm):
    """Django's own, in the desk's words."""

    error_messages = {
        "invalid_login": _("This name and this password do not belong together. Type both once more; case counts."),
        "inactive": _("This account is closed."),
    }


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
