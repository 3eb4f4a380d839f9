"""Who is asking, and of which host."""

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound

from newsletters.models import Publication
from newsletters.models.publication import RESERVED_SLUGS

Handler = Callable[[HttpRequest], HttpResponse]


def proxy(get_response: Handler) -> Handler:
    """Believe X-Forwarded-For and X-Forwarded-Proto, but only from a proxy the operator named."""

    def middleware(request: HttpRequest) -> HttpResponse:
        # Proxies append: read from the right, and stop at the first address that is not ours.
        hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        while hops and trusted(request.META.get("REMOTE_ADDR", "")):
            hop = hops.pop().strip()
            if not is_address(hop):
                break
            request.META["wsgi.url_scheme"] = request.META.get("HTTP_X_FORWARDED_PROTO", "http").strip()
            request.META["REMOTE_ADDR"] = hop
        return get_response(request)

    return middleware


def trusted(address: str) -> bool:
    return is_address(address) and any(ipaddress.ip_address(address) in network for network in settings.TRUSTED_PROXIES)


def is_address(value: str) -> bool:
    try:
        return bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def host(get_response: Handler) -> Handler:
    """Serve a publication on its own host without its name in the path; answer 404 for hosts nobody owns."""

    def middleware(request: HttpRequest) -> HttpResponse:
        name = request.META.get("HTTP_HOST", request.META.get("SERVER_NAME", "")).rsplit(":", 1)[0].lower()
        if name in settings.KNOWN_HOSTS or request.path_info in {"/healthz", "/readyz"}:
            return get_response(request)
        slug = Publication.objects.filter(host=name).values_list("slug", flat=True).first()
        if slug is None:
            return HttpResponseNotFound("Nothing is published at this address.", content_type="text/plain")
        if request.path_info.split("/")[1] not in RESERVED_SLUGS:
            request.path_info = f"/{slug}{request.path_info}"
        return get_response(request)

    return middleware
