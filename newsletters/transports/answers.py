"""What a provider's answer says about each mail of a call."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from anymail.exceptions import AnymailAPIError, AnymailError
from requests.exceptions import ConnectTimeout
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from newsletters.headers import one_line
from newsletters.transports import Outcome

LONGEST_WAIT = 3600
# A key, a bill, a domain or a limit is in the way: whoever runs this can mend it before the day is over.
MENDABLE = {401, 402, 403, 404, 405, 407, 420, 429}
# Of these, what a limit was: with this number before it as in SMTP, it slows the relay down.
TOO_FAST = {420, 429}
# The whole call was turned away for what stands in it, perhaps in one mail of many.
CONTENT = {400, 413, 422}
# Brevo's word, with a 400, for a key that it has seen within the last half hour: those mails are on their way.
SEEN = "duplicate_parameter"
# botocore's names for a call that never left.
UNSENT = {"EndpointConnectionError", "ConnectTimeoutError", "NoCredentialsError", "PartialCredentialsError"}
# SES answers these with 400 or within a 200.
SES_MENDABLE = {
    "AccountSuspendedException",
    "LimitExceededException",
    "MailFromDomainNotVerifiedException",
    "SendingPausedException",
    "ThrottlingException",
    "TooManyRequestsException",
    "ACCOUNT_DAILY_QUOTA_EXCEEDED",
    "ACCOUNT_SENDING_PAUSED",
    "ACCOUNT_SUSPENDED",
    "ACCOUNT_THROTTLED",
    "CONFIGURATION_SET_NOT_FOUND",
    "CONFIGURATION_SET_SENDING_PAUSED",
    "INVALID_SENDING_POOL_NAME",
    "MAIL_FROM_DOMAIN_NOT_VERIFIED",
    "TRANSIENT_FAILURE",
}
# https://postmarkapp.com/developer/api/overview#error-codes
INACTIVE, BAD_REQUEST = 406, 300

Outcomes = list[Outcome]


def outcomes(name: str, answer: Any, count: int) -> Outcomes | Outcome:
    """Return one outcome for each of `count` mails, or the one of the whole call."""
    try:
        body = answer if isinstance(answer, dict) else answer.json()
        found = READERS[name](body, count)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        found = []
    if len(found) == count:
        wait = 0 if all(one.state == "retry" for one in found) else None
        # Their words go into the database, which takes neither NUL nor half characters.
        return [replace(one, reply=one_line(one.reply)[:250], wait=wait) for one in found]
    status = getattr(answer, "status_code", 200)
    if status >= 400:
        return by_status(status, getattr(answer, "text", ""), getattr(answer, "headers", {}))
    return Outcome("uncertain", "no reply", "an answer that cannot be read", wait=0)


def refusal(error: AnymailError) -> Outcome:
    """Return what an error says about the whole call."""
    response, text = error.response, one_line(" ".join(str(error).split()))
    if isinstance(response, Mapping):
        return _ses_refusal(response, text)
    if response is not None:
        return by_status(response.status_code, text, response.headers)
    cause = error.__cause__
    if cause is None or not isinstance(error, AnymailAPIError) or type(cause).__name__ == "ParamValidationError":
        # anymail or boto3 would not even write the call.
        return Outcome("failed", "refused", text[:250])
    if never_left(cause):
        return Outcome("retry", "unreachable", text[:250], wait=0)
    return Outcome("uncertain", "no reply", text[:250], wait=0)


def _ses_refusal(response: Mapping[str, Any], text: str) -> Outcome:
    meta = response.get("ResponseMetadata", {})
    mendable = response.get("Error", {}).get("Code") in SES_MENDABLE
    return by_status(429 if mendable else meta.get("HTTPStatusCode", 500), text, meta.get("HTTPHeaders", {}))


def never_left(cause: BaseException) -> bool:
    """Tell whether no connection was made, so that nothing can have arrived."""
    if isinstance(cause, ConnectTimeout) or type(cause).__name__ in UNSENT:
        return True
    reason = getattr(cause.args[0], "reason", None) if cause.args else None
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def by_status(status: int, text: str, headers: Mapping[str, str]) -> Outcome:
    """Return what an HTTP status says about the whole call."""
    if SEEN in text:
        return Outcome("uncertain", "no reply", SEEN)
    text = one_line(f"{status} {text}" if status in TOO_FAST else text)[:250]
    if status in MENDABLE or status < 400:
        return Outcome("retry", "refused", text, wait=_wait(headers))
    if status in CONTENT:
        return Outcome("failed", "refused", text)
    # A gateway's 5xx does not say whether the service behind it took the mails, nor does a conflict of keys.
    return Outcome("uncertain", "no reply", text, wait=_wait(headers))


def _wait(headers: Mapping[str, str]) -> int:
    """Return the seconds of Retry-After (RFC 9110 section 10.2.3), at most an hour."""
    value = headers.get("Retry-After") or headers.get("retry-after") or ""
    if value.isdecimal():
        return min(int(value[:9]), LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max(int((until - datetime.now(UTC)).total_seconds()), 0), LONGEST_WAIT)


def _sent(number: object) -> Outcome:
    return Outcome("sent", "", str(number)[:250])


def _mailgun(body: Any, count: int) -> Outcomes:
    return [_sent(body["id"])] * count


def _sparkpost(body: Any, count: int) -> Outcomes:
    """It counts what it refused and does not name it: an event will say which."""
    results = body["results"]
    accepted, rejected, number = (
        results[name] for name in ("total_accepted_recipients", "total_rejected_recipients", "id")
    )
    if accepted == count and not rejected:
        return [_sent(number)] * count
    if rejected == count and not accepted:
        return [Outcome("failed", "refused", f"{number}: all rejected")] * count
    return [Outcome("uncertain", "no reply", f"{number}: {rejected} of {count} rejected, unnamed")] * count


def _postmark(body: Any, count: int) -> Outcomes:
    return [_one_of_postmark(one) for one in body] if isinstance(body, list) else []


def _one_of_postmark(one: Any) -> Outcome:
    code, text = one.get("ErrorCode", 0), str(one.get("Message", ""))[:240]
    if code == 0:
        return _sent(one["MessageID"])
    if code == INACTIVE:
        return Outcome("failed", "blocked", f"{code} {text}")
    if code == BAD_REQUEST:
        return Outcome("failed", "address" if "'To'" in text else "refused", f"{code} {text}")
    return Outcome("retry", "refused", f"{code} {text}")


def _mailjet(body: Any, count: int) -> Outcomes:
    return [_one_of_mailjet(one) for one in body["Messages"]]


def _one_of_mailjet(one: Any) -> Outcome:
    if one["Status"] == "success":
        return _sent(one["To"][0]["MessageID"])
    error = one["Errors"][0]
    text = f"{error.get('ErrorCode', '')} {error.get('ErrorMessage', '')}"[:250]
    status = int(error.get("StatusCode") or 400)
    return Outcome("failed" if status in CONTENT else "retry", "refused", text)


def _resend(body: Any, count: int) -> Outcomes:
    return [_sent(one["id"]) for one in body["data"]]


def _brevo(body: Any, count: int) -> Outcomes:
    return [_sent(number) for number in body.get("messageIds") or [body["messageId"]]]


def _ses(body: Any, count: int) -> Outcomes:
    return [_one_of_ses(one) for one in body["BulkEmailEntryResults"]]


def _one_of_ses(one: Any) -> Outcome:
    if one["Status"] == "SUCCESS":
        return _sent(one["MessageId"])
    state = "retry" if one["Status"] in SES_MENDABLE else "failed"
    return Outcome(state, "refused", f"{one['Status']} {one.get('Error', '')}"[:250])


READERS: Mapping[str, Callable[[Any, int], Outcomes]] = {
    "mailgun": _mailgun,
    "sparkpost": _sparkpost,
    "postmark": _postmark,
    "mailjet": _mailjet,
    "resend": _resend,
    "brevo": _brevo,
    "amazon_ses": _ses,
}
