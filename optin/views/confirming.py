"""The pages after the form: one more step, and the link or the code that takes it."""

from datetime import datetime
from zoneinfo import ZoneInfo

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from newsletters import clock, markup, zones
from newsletters.addresses import masked, readable
from newsletters.links import BadToken, Purpose, seal, unseal
from newsletters.views.pages import unlisted
from optin import confirmation, forgetting, wording
from optin.arrival import arrival, first_dates
from optin.confirmation import Standing
from optin.forms import AddressForm, CodeForm
from optin.models import OptInPage, Request
from optin.views.joining import back_at, too_many
from optin.views.shared import asker, see, show

requests = Request.objects.select_related("page__publication", "page__series", "consent")
# 410: nothing is behind this link any more, and no reader of links need come back.
STATUS = {Standing.EXPIRED: 410, Standing.CANCELLED: 410}


def asked_by(purpose: Purpose, token: str) -> Request | None:
    """Return the request a token was made for, or None once it is forgotten. Raises BadToken."""
    return requests.filter(pk=unseal(purpose, token).number).first()


@csrf_exempt
@unlisted
@require_http_methods(["GET", "HEAD", "POST"])
def thanks(request: HttpRequest, slug: str, name: str, token: str) -> HttpResponse:
    """Say where the mail went. Looks the same whether the address is known, new, or refused."""
    page = OptInPage.objects.select_related("publication").filter(publication__slug=slug, slug=name).first()
    try:
        asked = asked_by(Purpose.THANKS, token)
    except BadToken:
        raise Http404 from None
    now = timezone.now()
    if page is None or (asked and asked.page_id != page.pk):
        raise Http404
    if asked is None or asked.cancelled_at or now > asked.created_at + confirmation.LINK_LASTS:
        return show(request, "optin/expired.html", page, 410)
    if "code" in request.POST:
        return enter_code(request, asked, now)
    if "again" in request.POST:
        return send_again(request, asked, now)
    if "email" in request.POST:
        return correct_address(request, asked, now)
    return thank(request, asked, now)


def thank(
    request: HttpRequest,
    asked: Request,
    now: datetime,
    code: CodeForm | None = None,
    email: AddressForm | None = None,
    *,
    early: bool = False,
) -> HttpResponse:
    publication = asked.page.publication
    first = first_dates(publication, asked.zone, now, 1)[0]
    wait = asked.created_at + confirmation.AGAIN_AFTER - now
    return show(
        request,
        "optin/thanks.html",
        asked.page,
        422 if code or email or early else 200,
        address=readable(asked.address),
        asked=asked,
        consent=asked.consent.wording,
        asked_at=asked.created_at.astimezone(ZoneInfo(asked.zone)),
        first=first,
        today=clock.local_date(now, asked.zone),
        wait=max(int(wait.total_seconds()) + 1, 0),
        code=code or CodeForm(),
        email=email or AddressForm(initial={"email": readable(asked.address)}),
        early=early,
    )


def enter_code(request: HttpRequest, asked: Request, now: datetime) -> HttpResponse:
    form = CodeForm(request.POST)
    if form.is_valid():
        if confirmation.matches(asked, form.cleaned_data["code"], now):
            confirmation.confirm(asked.pk, page_address(asked, "/thanks/"), asker(request), now)
            return see(request, f"/confirm/{seal(Purpose.CONFIRM, asked.pk)}/")
        form.add_error(
            "code",
            _(
                "This is not the code of an email of the last 30 minutes, or it was tried five times. Look once more,"
                " or press the button in the email."
            ),
        )
    return thank(request, asked, now, code=form)


def send_again(request: HttpRequest, asked: Request, now: datetime) -> HttpResponse:
    if confirmation.again(asked, now) or asked.again_at:
        return see(request, request.path)
    return thank(request, asked, now, early=True)


def correct_address(request: HttpRequest, asked: Request, now: datetime) -> HttpResponse:
    """Ask again with another address, and close the request that went astray."""
    form = AddressForm(request.POST)
    if not form.is_valid():
        return thank(request, asked, now, email=form)
    email = form.cleaned_data["email"]
    if (wait := back_at(request, asked.page, email)) is not None:
        return too_many(request, asked.page, wait)
    new = confirmation.ask(
        asked.page,
        email,
        asked.consent.wording,
        page_address(asked, "/thanks/"),
        asker(request),
        now,
        first_name=asked.first_name,
        zone=asked.zone,
    )
    forgetting.correct(asked, now)
    return see(request, f"../{seal(Purpose.THANKS, new.pk)}/")


def page_address(asked: Request, rest: str) -> str:
    """Return where a wording was shown, without the token that opens it."""
    return f"{asked.page.publication.root}/join/{asked.page.slug}{rest}"


@csrf_exempt
@unlisted
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    # Mail scanners fetch every link and some run the page: only a person's own button counts.
    try:
        asked = asked_by(Purpose.CONFIRM, token)
    except BadToken:
        return render(request, "optin/broken.html", status=404)
    if asked is None:
        return render(request, "optin/expired.html", status=410)
    now, publication = timezone.now(), asked.page.publication
    if "confirm" in request.POST:
        confirmation.confirm(asked.pk, f"{publication.origin}/confirm/", asker(request), now)
        return see(request, request.path)
    if "not_me" in request.POST and confirmation.lasts(asked, now):
        forgetting.not_me(asked, now)
        return see(request, request.path)
    return stand(request, asked, confirmation.standing(asked, now), now)


def stand(request: HttpRequest, asked: Request, standing: Standing, now: datetime) -> HttpResponse:
    """Show what a confirmation link is still good for."""
    page, publication = asked.page, asked.page.publication
    reader = confirmation.reader_of(asked) if standing == Standing.CONFIRMED else None
    first = first_dates(publication, asked.zone, now, 1)[0]
    return show(
        request,
        f"optin/{standing}.html",
        page,
        STATUS.get(standing, 200),
        address=masked(asked.address),
        asked=asked,
        consent=asked.consent.wording,
        promise=wording.promise(page),
        when=wording.when(first, clock.local_date(now, asked.zone), publication.language),
        thanks=markup.html(page.thanks),
        place=zones.place(reader.zone) if reader else "",
        reader=reader,
        arrival=arrival(reader, asked.confirmed_at, now) if reader and asked.confirmed_at else None,
        refusable=confirmation.lasts(asked, now),
    )
