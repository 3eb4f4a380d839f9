"""The door: who may try a name and a password, and how often."""

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import views
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from desk.models import WINDOW, Attempt


class Throttled(AuthenticationForm):
    """Look at no password where a name or a network has tried too often."""

    def clean(self) -> dict[str, Any]:
        ip = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        attempt = Attempt.note(self.cleaned_data.get("username", ""), ip, timezone.now())
        if attempt is None:
            text = _("Too many attempts. Wait %(minutes)d minutes, then try again.")
            raise ValidationError(text, code="throttled", params={"minutes": WINDOW.total_seconds() // 60})
        cleaned: dict[str, Any] = super().clean()
        attempt.succeed()
        return cleaned


class LoginForm(Throttled):
    """Django's own, in the desk's words."""

    error_messages = {
        "invalid_login": _("This name and this password do not belong together. Type both once more; case counts."),
        "inactive": _("This account is closed."),
    }


class AdminLoginForm(Throttled, AdminAuthenticationForm):
    """The same door for the admin."""


class Login(views.LoginView):
    template_name = "desk/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_invalid(form)
        response.status_code = 429 if form.has_error(NON_FIELD_ERRORS, "throttled") else 422
        return response
