"""The addresses that mail providers call, at /hooks/PROVIDER/tracking/ and /hooks/PROVIDER/inbound/: anymail's views.

Only what is signed counts. anymail refuses a wrong signature itself; a provider that signs nothing must show
ANYMAIL_WEBHOOK_SECRET, and without one its address does not exist.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from anymail import urls as anymail_urls
from anymail.exceptions import AnymailAPIError, AnymailInsecureWebhookWarning
from anymail.signals import inbound, tracking
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from newsletters.bounces import events
from newsletters.views import callers

log = logging.getLogger(__name__)


class NotDone(Exception):
    """An event was understood and could not be written down: its provider is to tell it again."""


def told(what: Callable[..., None]) -> Callable[..., None]:
    def tell(*args: Any, **facts: Any) -> None:
        try:
            what(*args, **facts)
        except Exception as error:
            raise NotDone from error

    return tell


tracking.connect(told(events.happened), weak=False, dispatch_uid="newsletters.bounces")
inbound.connect(told(events.received), weak=False, dispatch_uid="newsletters.bounces")


def closed(view: Any) -> bool:
    """Tell whether nothing proves who calls an address: its key is missing or unreadable, or the package it needs."""
    try:
        made = view.view_class(**view.view_initkwargs)
    except (ImproperlyConfigured, ImportError, ValueError, AnymailInsecureWebhookWarning):
        return True
    return bool(made.warn_if_no_basic_auth and not made.basic_auth)


def guarded(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let a call through to anymail where something proves who calls."""

    @csrf_exempt
    @require_http_methods(["GET", "HEAD", "POST"])
    def hook(request: HttpRequest, **parts: Any) -> HttpResponse:
        if closed(view):
            raise Http404
        try:
            return view(request, **parts)
        except ImproperlyConfigured:
            # Some look for their key only when they are called.
            raise Http404 from None
        except AnymailAPIError as error:
            # What it names could not be fetched from the provider.
            log.warning("%s: %s", request.path, error)
            return HttpResponse("Try again.", status=503, content_type="text/plain")
        except (AttributeError, LookupError, TypeError, ValueError):
            # anymail reads what it is given without asking what it is.
            log.warning("%s brought what makes no sense", request.path)
            return HttpResponseBadRequest("This makes no sense.", content_type="text/plain")

    return hook


def hooks() -> Iterable[URLPattern]:
    for one in anymail_urls.urlpatterns:
        address = str(one.pattern).removeprefix("^").removesuffix("$")
        provider = address.partition("/")[0]
        if provider == "sendinblue":
            # Brevo's former name, which anymail warns of.
            continue
        view = callers.VIEWS[address].as_view() if address in callers.VIEWS else one.callback
        if "(" not in address:
            yield path(f"hooks/{address}", guarded(view), name=one.name)
        else:
            for tail in ("inbound", "inbound_mime"):
                yield path(f"hooks/{provider}/{tail}/", guarded(view), name=f"{provider}_{tail}")
