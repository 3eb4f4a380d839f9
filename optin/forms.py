from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from newsletters import addresses
from newsletters.models.publication import known_zone
from optin import guard
from optin.models import OptInPage


class AddressForm(forms.Form):
    """An address; `cleaned_data["email"]` is an addresses.Address. A likely slip is asked about once."""

    email = forms.CharField(
        max_length=320,
        widget=forms.EmailInput,
        error_messages={"required": _("Write the address that the emails should go to.")},
    )
    as_typed = forms.CharField(max_length=320, required=False)
    hint = ""

    def clean_email(self) -> addresses.Address:
        email = addresses.normalise(self.cleaned_data["email"])
        meant = addresses.typo_hint(email.address)
        if meant and self.data.get("as_typed") != email.key:
            self.hint = email.key
            raise ValidationError(
                _("Did you mean %(meant)s? If %(typed)s is right, press the button again."),
                params={"meant": meant, "typed": email.address},
                code="typo",
            )
        return email


class JoinForm(AddressForm):
    """The form of an opt-in page. `zone` is the browser's, or the publication's where that is missing or unknown."""

    first_name = forms.CharField(
        max_length=80,
        required=False,
        error_messages={"max_length": _("Write a first name of at most 80 letters, or leave this empty.")},
    )
    zone = forms.CharField(required=False)
    website = forms.CharField(required=False)
    shown = forms.CharField(required=False)

    def __init__(self, page: OptInPage, wording: str, data: Any = None) -> None:
        super().__init__(data)
        self.page, self.wording = page, wording
        self.stamp = guard.stamp(page, wording)

    def clean_first_name(self) -> str:
        return " ".join(self.cleaned_data["first_name"].split())

    def clean_zone(self) -> str:
        zone: str = self.cleaned_data["zone"]
        try:
            known_zone(zone)
        except ValidationError:
            return self.page.publication.zone
        return zone

    def clean(self) -> None:
        """Ask for a second press where no person seems to have filled the form in: nobody is turned away by it."""
        shown: str = self.cleaned_data.get("shown", "")
        doubt = guard.doubt(shown, self.page, self.wording)
        if doubt != "stale":
            self.stamp = shown
        if doubt or self.cleaned_data.get("website"):
            self.add_error(None, _("Press the button once more, please. It shows that a person is asking."))


class CodeForm(forms.Form):
    code = forms.RegexField(
        r"^\s*(?:[0-9]\s*){6}\Z",
        error_messages={
            "required": _("Write the six digits from the email."),
            "invalid": _("The code has six digits, as in the email."),
        },
    )

    def clean_code(self) -> str:
        return "".join(self.cleaned_data["code"].split())
