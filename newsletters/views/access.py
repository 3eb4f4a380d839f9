"""One's own data, behind a link that was mailed on request and opens for an hour."""

from datetime import datetime, timedelta

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from newsletters import addresses, letters, privacy, tasks
from newsletters.forms import AddressForm, EraseForm, NameForm
from newsletters.links import Purpose, unseal
from newsletters.models import Letter, Subscriber, Suppression
from newsletters.models.subscriber import keyed_hash
from newsletters.views.pages import MEMBER, facts, gone, reader_of, show, token_page
from newsletters.views.reader import mail_access

# How often one reader may ask, and one mailbox be asked
MOVES_A_DAY = 3
MOVES_A_MONTH = 3
MEMORY = timedelta(days=30)


def expired(purpose: Purpose, token: str, now: datetime) -> bool:
    return letters.minute(now - letters.VALID) > unseal(purpose, token).slot


@token_page
def access(request: HttpRequest, token: str) -> HttpResponse:
    reader = reader_of(Purpose.ACCESS, token)
    if reader is None:
        return gone(request)
    now = timezone.now()
    if expired(Purpose.ACCESS, token, now):
        return renew(request, reader, now)
    if "download" in request.POST:
        return download(reader, now)
    if "erase" in request.POST:
        return erase(request, reader, now)
    if "name" in request.POST:
        return rename(request, reader, now)
    if "address" in request.POST:
        return ask_new_address(request, reader, now)
    return page(request, reader, now)


def page(request: HttpRequest, reader: Subscriber, now: datetime, **said: object) -> HttpResponse:
    forms = {
        "name_form": NameForm(initial={"first_name": reader.first_name}),
        "address_form": AddressForm(),
        "erase_form": EraseForm(),
    }
    return show(request, reader.publication, "access", facts(reader, now) | forms | said)


def renew(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    """Say that the hour is over, and mail a new link on request."""
    if "data" in request.POST:
        mail_access(reader, now)
    context = facts(reader, now) | {"mailed": "data" in request.POST}
    return show(request, reader.publication, "expired", context, 410)


def download(reader: Subscriber, now: datetime) -> HttpResponse:
    everything = privacy.export(reader, now)
    response = JsonResponse(everything, json_dumps_params={"ensure_ascii": False, "indent": 2})
    response["Content-Disposition"] = f'attachment; filename="{reader.publication.slug}-{now:%Y-%m-%d}.json"'
    return response


def erase(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    form = EraseForm(request.POST)
    if not form.is_valid():
        return page(request, reader, now, erase_form=form)
    publication, address = reader.publication, reader.address
    privacy.erase(reader, now)
    return show(request, publication, "erased", {"address": address})


def rename(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    form = NameForm(request.POST)
    if not form.is_valid():
        return page(request, reader, now, name_form=form)
    reader.first_name = form.cleaned_data["first_name"]
    reader.save(update_fields=["first_name"])
    return page(request, reader, now, renamed=True)


def ask_new_address(request: HttpRequest, reader: Subscriber, now: datetime) -> HttpResponse:
    """Mail a link to the new address; the answer is the same whatever is known of it."""
    form = AddressForm(request.POST)
    if reader.status not in MEMBER or not form.is_valid():
        return page(request, reader, now, address_form=form)
    new = form.cleaned_data["email"]
    if not mail_move(reader, new, now):
        return page(request, reader, now, address_form=form, too_often=True)
    return page(request, reader, now, asked_address=new.address)


def mail_move(reader: Subscriber, new: addresses.Address, now: datetime) -> bool:
    """Write to the new address; return False where this reader asked too often.

    The token is bound to the minute kept with the address, and a minute holds one: an older link, mailed to another
    address, must not confirm this one.
    """
    with transaction.atomic():
        reader = Subscriber.objects.select_for_update(of=("self",)).select_related("publication").get(pk=reader.pk)
        asked = Letter.objects.filter(
            subscriber=reader, kind=Letter.Kind.MOVE, created_at__gt=now - timedelta(days=1)
        ).count()
        minute = letters.minute(now)
        if asked >= MOVES_A_DAY or reader.fields.get("new_address_minute") == minute:
            return False
        reader.fields |= {"new_address": new.address, "new_address_minute": minute}
        reader.save(update_fields=["fields"])
        if welcome_at(new, now):
            letters.write(
                reader.publication,
                Letter.Kind.MOVE,
                new.address,
                f"{reader.pk} {minute}",
                language=reader.publication.language,
                subscriber=reader,
                context={"subscriber": reader.pk, "minute": minute},
                now=now,
            )
            tasks.wake()
    return True


def welcome_at(new: addresses.Address, now: datetime) -> bool:
    """Tell whether a mailbox may be asked: not after “not me”, and not again and again by different readers."""
    mailbox = addresses.mailbox_key(new.address)
    refused = Suppression.objects.filter(
        publication=None,
        address_hash=keyed_hash(mailbox),
        reason=Suppression.Reason.NOT_ME,
        lifted_at=None,
        since__gt=now - MEMORY,
    )
    asked = Letter.objects.filter(address_key=mailbox, kind=Letter.Kind.MOVE, created_at__gt=now - MEMORY)
    return not refused.exists() and asked.count() < MOVES_A_MONTH


@token_page
def move(request: HttpRequest, token: str) -> HttpResponse:
    """Take the new address once its owner presses the button."""
    reader = reader_of(Purpose.MOVE, token)
    if reader is None:
        return gone(request)
    now = timezone.now()
    pending = reader.fields.get("new_address_minute") == unseal(Purpose.MOVE, token).slot
    if not pending or expired(Purpose.MOVE, token, now) or reader.status not in MEMBER:
        return show(request, reader.publication, "move_expired", facts(reader, now), 410)
    new = addresses.normalise(reader.fields["new_address"])
    context = facts(reader, now) | {"new_address": new.address}
    if "move" not in request.POST:
        return show(request, reader.publication, "move", context)
    if not privacy.change_address(reader, new, now):
        return show(request, reader.publication, "move_taken", context)
    return show(request, reader.publication, "moved", context)
