"""Fetch one address that someone typed, without becoming anyone's way into the network behind this server."""

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, urljoin, urlsplit

from django.utils.translation import gettext as _

from newsletters.articles import ReadError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], list[str]]

USER_AGENT = "Funnel/1.0 (newsletter import)"
REDIRECTS = {301, 302, 303, 307, 308}
# Networks that lead inside although they count as global: 6to4, Teredo and NAT64 carry an IPv4 address; 168.63.129.16
# is the host of every Azure machine.
INWARD = [
    ipaddress.ip_network(network)
    for network in (
        "2002::/16",
        "2001::/32",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "::/96",
        "fec0::/10",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
]


def resolve(host: str, port: int) -> list[str]:
    """Return every address of a host. Raises OSError."""
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class Guard:
    """What may be fetched. `allowed` names networks that are reached although they are private."""

    resolve: Resolve = resolve
    allowed: Collection[IPNetwork] = ()
    ports: Collection[int] = (80, 443)
    seconds: float = 30
    size: int = 20_000_000
    redirects: int = 3
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def lets_pass(self, address: IPAddress) -> bool:
        if any(address in network for network in self.allowed if network.version == address.version):
            return True
        if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
            return False
        inward = any(address in network for network in INWARD if network.version == address.version)
        return address.is_global and not address.is_multicast and not address.is_reserved and not inward


class FetchError(ReadError):
    """An address that may not or cannot be fetched; the message tells the author what to do."""


@dataclass(frozen=True, slots=True)
class Fetched:
    url: str
    content_type: str
    body: bytes


def fetch(url: str, guard: Guard | None = None) -> Fetched:
    """Return what an address answers, after at most three redirects. Raises FetchError.

    The host is resolved once, every one of its addresses must be public, and the connection goes to the very address
    that was checked. No cookies, no credentials, no other ports, and an end to size and time.
    """
    guard = guard or Guard()
    deadline = time.monotonic() + guard.seconds
    for _redirect in range(guard.redirects + 1):
        answer, location = _get(url, guard, deadline)
        if answer is not None:
            return answer
        url = absolute(url, location)
    raise FetchError(_("This address sends on too often. Give the address where it ends."))


def absolute(base: str, address: str) -> str:
    """Return an address made whole; "" for one that nobody can read."""
    try:
        return urljoin(base, address)
    except ValueError:
        return ""


def _get(url: str, guard: Guard, deadline: float) -> tuple[Fetched | None, str]:
    scheme, host, port, path = _parts(url, guard)
    connection = _Connection(host, port, _checked(host, port, guard), guard.context if scheme == "https" else None)
    # A server that sends one byte now and then keeps every timeout of a socket alive; only this ends it.
    alarm = threading.Timer(max(0.01, deadline - time.monotonic()), connection.abort)
    alarm.start()
    try:
        connection.request("GET", path, headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", "Accept": "*/*"})
        response = connection.getresponse()
        if response.status in REDIRECTS and response.headers["Location"]:
            return None, response.headers["Location"]
        if response.status != 200:
            raise FetchError(
                _("This address answers with error %(status)d. Open it in a browser first.")
                % {"status": response.status}
            )
        body = _body(response, guard.size)
        if connection.aborted:
            raise TimeoutError
    except ssl.SSLError:
        raise FetchError(_("The certificate of %(host)s is not valid.") % {"host": host}) from None
    except (OSError, http.client.HTTPException, zlib.error, ValueError, AttributeError):
        if time.monotonic() >= deadline:
            raise FetchError(
                _("%(host)s takes too long to answer. Try again later, or download the file yourself.") % {"host": host}
            ) from None
        raise FetchError(
            _("%(host)s does not answer. Check the address, or try again later.") % {"host": host}
        ) from None
    finally:
        alarm.cancel()
        connection.close()
    return Fetched(url, response.headers.get_content_type(), body), ""


def _parts(url: str, guard: Guard) -> tuple[str, str, int, str]:
    """Return scheme, host, port and path of an address that may be asked for."""
    refusal = FetchError(_("This is no address that can be fetched. Give one that begins with https:// or http://."))
    if re.search(r"[\x00-\x20\x7f\\]", url) or len(url) > 2000:
        raise refusal
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").rstrip(".")
        if ":" not in host:
            host = unicodedata.normalize("NFKC", host).encode("idna").decode().lower()
    except (ValueError, UnicodeError):
        raise refusal from None
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc or port not in guard.ports:
        raise refusal
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
    )
    return parts.scheme, host, port, path


def _checked(host: str, port: int, guard: Guard) -> str:
    """Return the address to connect to. One address that leads inside condemns the host."""
    refusal = FetchError(_("%(host)s belongs to a private network and is not fetched.") % {"host": host})
    try:
        # "127.1", "0x7f.1" and "2130706433" are addresses to some resolvers: a number counts in its one plain form.
        if ":" in host or re.fullmatch(r"(0x[0-9a-f]*|\d+)", host.rpartition(".")[2]):
            found = [str(ipaddress.ip_address(host))]
        elif re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", host) or guard.allowed:
            found = guard.resolve(host, port)
        else:
            raise refusal
        addresses = [ipaddress.ip_address(address) for address in found]
    except ValueError:
        raise refusal from None
    except OSError:
        raise FetchError(_("There is no host %(host)s. Check the address.") % {"host": host}) from None
    if not addresses or not all(guard.lets_pass(address) for address in addresses):
        raise refusal
    return str(addresses[0])


def _body(response: http.client.HTTPResponse, limit: int) -> bytes:
    zipped = response.headers.get("Content-Encoding", "").lower() in {"gzip", "x-gzip"}
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    body = bytearray()
    while chunk := response.read1(65536):
        body += unzip.decompress(chunk, limit + 1 - len(body)) if zipped else chunk
        if len(body) > limit:
            message = _("This address holds more than %(limit)d MB. Download the file and import it from the disk.")
            raise FetchError(message % {"limit": limit // 1_000_000})
    return bytes(body)


class _Connection(http.client.HTTPConnection):
    """A connection to one checked address that speaks, and proves, the host's name."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(f"[{host}]" if ":" in host else host, port, timeout=10)
        self.address, self.context, self.name = address, context, host
        self.default_port = 443 if context else 80
        self.aborted = False
        self.held: socket.socket | None = None

    def connect(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.context:
            self.sock = self.context.wrap_socket(self.sock, server_hostname=self.name, do_handshake_on_connect=False)
        # http.client lets go of the socket while an answer without length is still being read.
        self.held = self.sock
        if self.aborted:
            raise TimeoutError
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()

    def abort(self) -> None:
        self.aborted = True
        if self.held is not None:
            with suppress(OSError):
                # SSLSocket.shutdown would take the TLS state away from the thread that reads.
                socket.socket.shutdown(self.held, socket.SHUT_RDWR)
