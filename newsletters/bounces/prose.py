"""Reports that mail servers write for people, in a form of their own: what is one, and whom it is about."""

import re
from itertools import islice

from newsletters.bounces.letter import Letter, fields, spoken, words

# Each is tried only where an address may begin, and gives nothing back: what they take grows no faster than the text.
ADDRESS = re.compile(
    r"(?<![^\s<>()\[\],;:\"'`=@])[^\s<>()\[\],;:\"'`=@]{1,64}+@[A-Za-z0-9][A-Za-z0-9.-]{0,250}[A-Za-z0-9]"
)
SENDERS = re.compile(
    r"mailer-?daemon|post_?master|mail delivery (?:sub)?system|mdaemon|mail system|mail deliver(?:y|er)|post ?office"
    r"|mail administrator|mailadmin|delivery (?:service|subsystem)|bounces?\b.{0,40}google|<>",
    re.IGNORECASE,
)
SUBJECTS = re.compile(
    r"undeliver|not deliver|error sending|メールエラー|non[- ]?remis|delivery (?:status|fail|problem|error"
    r"|notification|has failed|report|delayed)"
    r"|fail(?:ed|ure|ed:)? (?:notice|deliver|mail)|returned (?:mail|to sender|message)|return(?:ed|ing) message"
    r"|mail (?:delivery|could not|failure|error|system error|undeliverable)|message (?:could not|not|undeliver"
    r"|delayed|status)"
    r"|could ?n.t be delivered|could not be delivered|unable to deliver|user unknown|unzustellbar|delivery_failure"
    r"|non[- ]deliver|permanent(?:ly)? (?:error|fail)|warning: (?:message|could)|nondeliver|returned email|dsn:"
    r"|impossible de (?:remettre|distribuer)|échec de (?:la )?(?:remise|distribution)|fallo|no se puede entregar"
    r"|mail error|rejected:|bounced? (?:mail|message|email)",
    re.IGNORECASE,
)
AUTOMATIC_SUBJECT = re.compile(
    r"^\W*(?:auto(?:matic|matique)?[- :]|automatic reply|auto-?reply|out of (?:the )?office|réponse automatique"
    r"|absence\b|message d.absence|absent\b|abwesen|automatische antwort|respuesta autom|vacation"
    r"|risposta automatica)",
    re.IGNORECASE,
)
TEXTS = re.compile(
    r"could ?n.?t be (?:delivered|sent)|could not be (?:delivered|sent)|(?:was|were|been) (?:not |un)(?:able"
    r"|delivered)"
    r"|(?:un|not )able to (?:deliver|send)|undeliver|delivery (?:has )?(?:failed|to the following|failure|attempt)"
    r"|permanent (?:error|fatal|failure)|following (?:address|recipient)|wasn.t able to deliver|not (?:be )?delivered"
    r"|did not reach|(?:user|host|recipient) (?:is )?unknown|delivery failed|can(?:not|.t) be delivered|n.a pas pu"
    r"|rejected (?:the|your) (?:message|mail)|returned to (?:the )?sender|transcript of session|failed recipient"
    r"|mailbox .{0,60}(?:full|not|unavail)|no such user|errors? occurred|trouble delivering|invalid user"
    r"|rejected recipient"
    r"|error message below",
    re.IGNORECASE,
)
# From here on it is our own message that comes back.
RULE = re.compile(
    r"^[ \t>]*[-=_*#]{2,}(?![-=_*#])[ \t]*(?![ \t]|transcript|the following|session|did not|failed add|report"
    r"|server|failure)[^\n]{0,80}?"
    r"\b(?:messages?|headers?|copy|original|content|returned|unsent|undelivered|mail)\b[^\n]{0,80}$"
    r"|^[ \t>*]*(?:original|returned|unsent|your|the) (?:message|mail|e-?mail)(?: text| headers?)?(?: follows"
    r"| is| was"
    r"| below| attached| included)?[ \t]*:?[ \t]*$"
    r"|^[^\n]{0,60}(?:copy of (?:the|your) (?:original )?(?:message|mail)|(?:message|mail|headers?"
    r"|text) follows?)[^\n]{0,60}$",
    re.IGNORECASE | re.MULTILINE,
)
BLOCK = re.compile(
    r"^(?:Content-Type:[ \t]*message/|Reporting-MTA:|Final-Recipient:)"
    r"|^(?:Return-Path|Received|Message-ID|DKIM-Signature|X-[A-Za-z-]+|MIME-Version|From):[^\n]*\n"
    r"(?:[ \t][^\n]*\n)*(?:Return-Path|Received|Message-ID|From|To|Subject|Date|MIME-Version|Content-Type"
    r"|X-[A-Za-z-]+):",
    re.IGNORECASE | re.MULTILINE,
)
DELAYED = re.compile(
    r"will (?:be retried|keep trying|continue to (?:try|retry)|be attempted|try to deliver)|no action is required"
    r"|do not need to resend|warning message only|not yet been delivered|delivery (?:is )?delayed",
    re.IGNORECASE,
)
ALONE = re.compile(
    r"^[ \t>*-]*+(?:to:|recipients?:|address:|for:)?+[ \t]*+<?+(?:mailto:|smtp:)?+"
    r"([^\s<>:;,()\"@]{1,64}+@[^\s<>:;,()\"@.-]++(?:[.-]++[^\s<>:;,()\"@.-]++)*+)"
    r"[.-]*+>?+[ \t]*+(?:[:;.,]|\([^\n]{0,100}|[ -]*+)?+[ \t]*+$",
    re.IGNORECASE | re.MULTILINE,
)
HEADED = re.compile(r"^[ \t]*+<([^\s<>@]{1,64}+@[^\s<>@]{1,255}+)>(?:\.{3}|:|[ \t]*+(?:$|\())", re.MULTILINE)
COMMAND = re.compile(r"rcpt[ ]to[ ]?:[ ]*+<?([^\s<>@]{1,64}+@[^\s<>@]{1,255}+)", re.IGNORECASE)
DOTTED = re.compile(r"(?<![^\s<>@])([^\s<>@]{1,64}+@[^\s<>@.]++(?:\.[^\s<>@.]++)*+)>?\.{3}")
LISTED = re.compile(
    r"^(?=[^\n@]{0,160}+@)[^\n@]{0,40}\b(?:to|recipient|recipients|address|user|mailbox|destinataire)\b"
    r"[^\n@]{0,40}?(?<![^\s<>:;,()\"'=@])([^\s<>:;,()\"'=@]{1,64}+@[^\s<>:;,()\"'@]{1,255}+)",
    re.IGNORECASE | re.MULTILINE,
)
OURS = re.compile(
    r"^[^\n@]{0,60}\b(?:mail from|from|sender|sent by|return-path|reply-to|envelope-from|contact"
    r"|postmaster)\b[^\n@]{0,20}$",
    re.IGNORECASE,
)
MOST, HEAD = 50, 10_000


def speaks_of_failure(letter: Letter, said: str) -> bool:
    """Tell whether a message without a machine's report is one all the same."""
    if letter.header("x-failed-recipients"):
        return True
    title = words(letter.header("subject"))
    # Whoever is away has a null return path too (RFC 3834), and says what they like.
    if AUTOMATIC_SUBJECT.match(title):
        return False
    by_server = SENDERS.search(words(letter.header("from")) + " " + letter.header("return-path")[:300])
    subject = SUBJECTS.search(title)
    text = TEXTS.search(said[:8000])
    return bool((by_server and (subject or text)) or (subject and text))


def parted(letter: Letter) -> tuple[str, str]:
    """Return what the server says, and from where the message that it sends back begins."""
    whole = letter.text
    if not whole.strip():
        # Some put the whole report in a part of another kind.
        whole = "\n".join(spoken(part.text) for part in letter.parts if not part.returned)
    whole = shortened(whole)
    end = cut(whole[:HEAD])
    return whole[:end], whole[end:]


def shortened(text: str) -> str:
    """Return the head of a text, in lines as mail has them at most (RFC 5322 section 2.1.1): the searches stay fast."""
    return "\n".join(line[:998] for line in text[: 4 * HEAD].split("\n"))[: 2 * HEAD]


def cut(text: str) -> int:
    ends = [match.start() for match in (RULE.search(text), BLOCK.search(text)) if match and match.start() > 20]
    return min(ends, default=len(text))


def recipients(letter: Letter, text: str, rest: str) -> list[tuple[str, str, bool]]:
    """Return whom a report is about: address, what it says of it, and whether the server still tries."""
    delayed = bool(DELAYED.search(text))
    found = candidates(letter, text, rest)[:MOST]
    if not found:
        return [("", text, delayed)]
    if len(found) == 1:
        return [(found[0], text, delayed)]
    return [(address, said, delayed) for address, said in about(text, found).items()]


def about(text: str, addresses: list[str]) -> dict[str, str]:
    """Share a text out to the addresses it speaks of, each from where it first stands to the next one."""
    lower = text.lower()
    places = sorted((lower.find(address.lower()), address) for address in set(addresses))
    if len(places) < 2 or places[-1][0] < 0:
        return dict.fromkeys(addresses, text)
    ends = [start for start, _address in places[1:]] + [len(text)]
    return {address: own(text, max(start, 0), end) for (start, address), end in zip(places, ends, strict=True)}


def own(text: str, start: int, end: int) -> str:
    """Return what stands about one of several addresses: in a transcript of a session, its own line."""
    line = text[start : text.find("\n", start) if "\n" in text[start:] else end]
    return line if DOTTED.match(line) else text[start:end]


def candidates(letter: Letter, text: str, rest: str) -> list[str]:
    """Return the failed addresses by the surest sign there is of them."""
    if listed := letter.header("x-failed-recipients"):
        return unique(ADDRESS.findall(listed))
    own = {
        address.lower() for name in ("from", "to", "return-path", "delivered-to") for address in in_header(letter, name)
    }
    others = in_returned(letter, text, rest)
    for pattern in (HEADED, ALONE, DOTTED, COMMAND, LISTED, ADDRESS):
        seen = unique(
            m[1] if pattern.groups else m[0] for m in islice(pattern.finditer(text), 200) if not ours(text, m, pattern)
        )
        if strangers := [one for one in seen if one.lower() not in own] or [one for one in seen if one in others]:
            return strangers if pattern not in (ADDRESS, LISTED) else (both(strangers, others) or strangers[:1])
    return others[:1]


def both(some: list[str], others: list[str]) -> list[str]:
    lower = {other.lower() for other in others}
    return [one for one in some if one.lower() in lower]


def ours(text: str, match: "re.Match[str]", pattern: "re.Pattern[str]") -> bool:
    """Tell whether an address stands there as the sender's."""
    start = match.start(1 if pattern.groups else 0)
    line = text[text.rfind("\n", 0, start) + 1 : start]
    before = text[max(0, start - 200) : start].rstrip(" \t\n<").rpartition("\n")[2]
    return bool(OURS.match(line.rstrip("<: \t")) or re.search(r"(?i)(?:sent by|mail from|sender)\W*$", before))


def in_header(letter: Letter, name: str) -> list[str]:
    return ADDRESS.findall(letter.header(name)[:2000])


def in_returned(letter: Letter, text: str, rest: str) -> list[str]:
    """Return to whom the message that came back was addressed."""
    headers = letter.returned or fields(rest.partition("\n\n")[2]) or fields(text + rest)
    return unique(ADDRESS.findall(" ".join([*headers.get("to", []), *headers.get("x-envelope-to", [])])[:4000]))


def unique(addresses: object) -> list[str]:
    cleaned = (str(address).strip(".'\"<>").lower() for address in addresses)  # type: ignore[attr-defined]
    return list(dict.fromkeys(address for address in cleaned if ADDRESS.fullmatch(address)))
