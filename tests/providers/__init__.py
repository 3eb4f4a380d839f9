"""Stand-ins for mail providers: real HTTP servers that hold every request against the provider's own examples.

Each NAME.json keeps what the provider documents, with the address of the page: `examples` are its requests, `further`
are the fields that other pages add to them ("*" stands for any name), `answer` is what it says to one recipient.
`question` is how one message is asked for by our own number, where that can be done, and what the answers are.
"""

import copy
import html
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

PLACE = Path(__file__).parent
NAMES = sorted(file.stem for file in PLACE.glob("*.json"))


@dataclass
class Shape:
    """What may stand in a place: kinds of scalars, an item of a list, fields of an object."""

    kinds: set[str] = field(default_factory=set)
    item: "Shape | None" = None
    fields: "dict[str, Shape] | None" = None

    def learn(self, example: Any) -> "Shape":
        if isinstance(example, dict):
            self.fields = self.fields or {}
            for name, value in example.items():
                self.fields.setdefault(name, Shape()).learn(value)
        elif isinstance(example, list):
            self.item = self.item or Shape()
            for value in example:
                self.item.learn(value)
        else:
            self.kinds.add(type(example).__name__)
        return self

    def faults(self, value: Any, path: str = "") -> Iterator[str]:
        """Say what in a request no example has."""
        if isinstance(value, dict):
            for name, inner in value.items():
                known = self._of(name)
                if known is None:
                    yield f"{path}.{name} is in no example"
                else:
                    yield from known.faults(inner, f"{path}.{name}")
        elif isinstance(value, list):
            for inner in value:
                yield from self.item.faults(inner, f"{path}[]") if self.item else [f"{path} is no list in any example"]
        elif type(value).__name__ not in self.kinds:
            yield f"{path} is {type(value).__name__}, not {self.kinds}"

    def _of(self, name: str) -> "Shape | None":
        fields = self.fields or {}
        starts = [known for pattern, known in fields.items() if pattern.endswith("*") and name.startswith(pattern[:-1])]
        return fields.get(name) or (starts[0] if starts else None)


@dataclass(frozen=True)
class Call:
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Mail:
    """One reader's mail as it would leave the provider."""

    address: str
    subject: str
    text: str
    html: str
    headers: dict[str, str]
    number: str
    reply_to: str


Reply = tuple[int, dict[str, str], Any]


class StandIn:
    """A provider on loopback. `replies` are given first, one to a call; a function makes one of the call.

    "hang" takes the call and says nothing, "drop" takes it and hangs up. `reads` is asked before a call is read: one
    that it turns away is never taken.
    """

    def __init__(self, name: str) -> None:
        self.name, self.known = name, json.loads((PLACE / f"{name}.json").read_text())
        self.shape = Shape()
        for example in [*self.known["examples"], *self.known["further"]]:
            self.shape.learn(example["request"])
        self.calls: list[Call] = []
        self.faults: list[str] = []
        self.replies: list[Any] = []
        self.reads: Callable[[], bool] = lambda: True
        self.questions: list[str] = []
        self.says: Any = None
        self.given = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def settings(self) -> dict[str, str]:
        """What the operator writes into the environment, without ANYMAIL_ before it."""
        ses = {
            "endpoint_url": self.url,
            "region_name": "eu-west-3",
            "aws_access_key_id": "AKIA",
            "aws_secret_access_key": "s",
        }
        return {
            "MAILGUN_API_KEY": "key", "MAILGUN_API_URL": f"{self.url}/v3",
            "POSTMARK_SERVER_TOKEN": "token", "POSTMARK_API_URL": self.url,
            "AMAZON_SES_CLIENT_PARAMS": json.dumps(ses),
            "BREVO_API_KEY": "key", "BREVO_API_URL": f"{self.url}/v3/",
            "MAILJET_API_KEY": "key", "MAILJET_SECRET_KEY": "secret", "MAILJET_API_URL": f"{self.url}/v3.1/",
            "SPARKPOST_API_KEY": "key", "SPARKPOST_API_URL": f"{self.url}/api/v1/",
            "RESEND_API_KEY": "key", "RESEND_API_URL": self.url,
            "REQUESTS_TIMEOUT": "5",
        }  # fmt: skip

    def take(self, call: Call) -> Any:
        self.calls.append(call)
        self.faults += self.check(call)
        reply = self.replies.pop(0) if self.replies else self.yes
        return reply(call) if callable(reply) else reply

    def check(self, call: Call) -> Iterator[str]:
        """Hold a request against the documented ones."""
        single = self.known.get("single", {})
        alone = call.path == single.get("path") and "messageVersions" not in call.body
        wanted = self.known["headers"] if not alone else {}
        for name, start in wanted.items():
            if not call.headers.get(name.lower(), "").startswith(start) or name.lower() not in call.headers:
                yield f"header {name} is missing"
        if call.path not in {self.known["path"], single.get("path")}:
            yield f"{call.path} is no documented path"
        body = [call.body] if alone and single.get("item") else call.body
        shape = Shape().learn(single["request"]) if alone and "request" in single else self.shape
        yield from shape.faults(body)
        for one in body if isinstance(body, list) else [body]:
            required = single.get("required", self.known["required"]) if alone else self.known["required"]
            yield from (f"{name} is missing" for name in required if name not in one)

    def asked(self, call: Call) -> Any:
        """Say as documented whether a message was taken; `says` goes before it."""
        known, parts = self.known.get("question", {}), urlsplit(call.path)
        query = dict(parse_qsl(parts.query))
        self.faults += self.check_question(known, parts.path, query, call.headers)
        number = query.get(known.get("number"), "")
        self.questions.append(number)
        if self.says is not None:
            return self.says
        body = copy.deepcopy(known["answer"]["body"])
        if self.name == "postmark":
            body["Messages"][0]["Metadata"] = {"message_id": number}
        return 200, {}, body if number in {mail.number for mail in self.mails()} else known["answer"]["none"]

    def check_question(self, known: Any, path: str, query: dict[str, str], headers: dict[str, str]) -> Iterator[str]:
        if path != known.get("path"):
            yield f"{path} is no documented question"
            return
        shape = Shape().learn(known["query"]).learn(known.get("further", {}).get("query", {}))
        yield from shape.faults(query)
        yield from (f"{name} is missing" for name in [*known["required"], known["number"]] if name not in query)
        for name, start in known["headers"].items():
            if not headers.get(name.lower(), "").startswith(start) or name.lower() not in headers:
                yield f"header {name} is missing"

    def yes(self, call: Call) -> Reply:
        """Answer as documented, with as many ids as there are recipients."""
        answer = copy.deepcopy(self.known["answer"])
        body, count = answer["body"], len(self.mails(call))
        if isinstance(body, list):
            return answer["status"], {}, self._each(body[0], count)
        for name in {"BulkEmailEntryResults", "messageIds", "Messages", "data"} & set(body):
            body[name] = self._each(body[name][0], count)
        if "results" in body:
            body["results"]["total_accepted_recipients"] = count
        return answer["status"], {}, body

    def _each(self, one: Any, count: int) -> list[Any]:
        made = []
        for _ in range(count):
            self.given += 1
            text = re.sub(r'("(?:MessageID|MessageId|id)": )("[^"]*"|\d+)', rf'\g<1>"id-{self.given}"', json.dumps(one))
            made.append(f"id-{self.given}" if isinstance(one, str) else json.loads(text))
        return made

    def mails(self, call: Call | None = None) -> list[Mail]:
        """Return what readers would get of a call, or of all."""
        calls = [call] if call else self.calls
        return [mail for one in calls for mail in DELIVERED[self.name](one.body)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(Speaker):
            def do_POST(self) -> None:
                if not stand_in.reads():
                    self.close_connection = True
                    return
                data = self.rfile.read(int(self.headers["Content-Length"]))
                form = "form-urlencoded" in self.headers.get("Content-Type", "")
                body = parse_qs(data.decode(), keep_blank_values=True) if form else json.loads(data)
                self.give(stand_in.take(Call(self.path, lower(self.headers), body)))

            def do_GET(self) -> None:
                self.give(stand_in.asked(Call(self.path, lower(self.headers), None)))

        return Handler


class Speaker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give(self, reply: Any) -> None:
        if reply == "hang":
            time.sleep(1.5)
        if isinstance(reply, str):
            self.close_connection = True
            return
        self.answer(*reply)

    def answer(self, status: int, headers: dict[str, str], body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _mailgun(body: Any) -> list[Mail]:
    values = json.loads(body["recipient-variables"][0])
    mails = []
    for to in body["to"]:
        address = _spec(to)

        def put(text: str, own: dict[str, str] = values[address]) -> str:
            return re.sub(r"%recipient\.([^%\s]+)%", lambda match: own[match[1]], text)

        headers = {name[2:]: put(value[0]) for name, value in body.items() if name.startswith("h:")}
        number, reply_to = put(body["v:message_id"][0]), _spec(headers["Reply-To"])
        subject, text, page = (put(body[name][0]) for name in ("subject", "text", "html"))
        mails.append(Mail(address, subject, text, page, headers, number, reply_to))
    return mails


def _sparkpost(body: Any) -> list[Mail]:
    content, mails = body["content"], []
    for one in body["recipients"]:
        own = body.get("substitution_data", {}) | one["metadata"] | one.get("substitution_data", {})
        text = _curly(content["text"], own, str)
        page = _curly(content["html"], own, html.escape)
        headers = {name: _curly(value, own, str) for name, value in content["headers"].items()}
        subject, number = _curly(content["subject"], own, str), one["metadata"]["message_id"]
        reply_to = _spec(_curly(content["reply_to"], own, str))
        mails.append(Mail(one["address"]["email"], subject, text, page, headers, number, reply_to))
    return mails


def _amazon_ses(body: Any) -> list[Mail]:
    content, mails = body["DefaultContent"]["Template"]["TemplateContent"], []
    for one in body["BulkEmailEntries"]:
        own = json.loads(one["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"])
        subject, text, page = (_curly(content[name], own, str) for name in ("Subject", "Text", "Html"))
        headers = {header["Name"]: header["Value"] for header in one["ReplacementHeaders"]}
        number = json.loads(headers.pop("X-Metadata"))["message_id"]
        address, reply_to = _spec(one["Destination"]["ToAddresses"][0]), _spec(body["ReplyToAddresses"][0])
        mails.append(Mail(address, subject, text, page, headers, number, reply_to))
    return mails


def _curly(text: str, own: dict[str, str], escape: Callable[[str], str]) -> str:
    """Put values in as handlebars do: three braces as they are, two escaped. Nothing else may look like a command."""

    def put(match: re.Match[str]) -> str:
        value = own[match[2]]
        return value if match[1] == "{{{" else escape(value)

    whole = re.sub(r"(\{\{\{?)(\w+)\}\}\}?", put, text)
    # What is left was not read as a command only because this stand-in knows no others.
    assert "{{" not in re.sub(r"\{\{\{?\w+\}\}\}?", "", text)
    return whole


def _postmark(body: Any) -> list[Mail]:
    mails = []
    for one in body:
        headers = {header["Name"]: header["Value"] for header in one["Headers"]}
        number, parts = one["Metadata"]["message_id"], (one["TextBody"], one["HtmlBody"])
        mails.append(Mail(_spec(one["To"]), one["Subject"], *parts, headers, number, _spec(one["ReplyTo"])))
    return mails


def _resend(body: Any) -> list[Mail]:
    mails = []
    for one in body:
        headers = dict(one["headers"])
        number, reply_to = json.loads(headers.pop("X-Metadata"))["message_id"], _spec(one["reply_to"][0])
        mails.append(Mail(_spec(one["to"][0]), one["subject"], one["text"], one["html"], headers, number, reply_to))
    return mails


def _mailjet(body: Any) -> list[Mail]:
    return [
        Mail(
            one["To"][0]["Email"],
            one["Subject"],
            one["TextPart"],
            one["HTMLPart"],
            one["Headers"],
            json.loads(one["EventPayload"])["message_id"],
            one["ReplyTo"]["Email"],
        )
        for one in body["Messages"]
    ]


def _brevo(body: Any) -> list[Mail]:
    mails = []
    for one in body["messageVersions"]:
        headers = dict(one["headers"])
        number = json.loads(headers.pop("X-Mailin-custom"))["message_id"]
        parts, reply_to = (one["textContent"], one["htmlContent"]), one["replyTo"]["email"]
        mails.append(Mail(one["to"][0]["email"], one["subject"], *parts, headers, number, reply_to))
    return mails


def _spec(mailbox: str) -> str:
    return mailbox.rpartition("<")[2].rstrip(">")


DELIVERED: dict[str, Callable[[Any], list[Mail]]] = {
    "mailgun": _mailgun,
    "sparkpost": _sparkpost,
    "amazon_ses": _amazon_ses,
    "postmark": _postmark,
    "resend": _resend,
    "mailjet": _mailjet,
    "brevo": _brevo,
}


@pytest.fixture
def open_provider(settings: Any) -> Iterator[Callable[[str], StandIn]]:
    """Return a function that opens a provider and makes it the way out; what it found wrong fails the test."""
    opened: list[StandIn] = []

    def open_(name: str) -> StandIn:
        stand_in = StandIn(name)
        opened.append(stand_in)
        settings.ANYMAIL = stand_in.settings
        settings.MAIL_URL = f"esp:{name}" + ("?tracking=accepted" if name == "brevo" else "")
        return stand_in

    yield open_
    for stand_in in opened:
        stand_in.stop()
    assert [fault for stand_in in opened for fault in stand_in.faults] == []
