import gzip
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.management import call_command

from newsletters.articles.fetch import FetchError, Guard, fetch
from newsletters.models import Article, Publication
from tests.blogs import feed, item

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
Page = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def site(pages: dict[str, Page | bytes], context: ssl.SSLContext | None = None) -> Iterator[ThreadingHTTPServer]:
    """A web server on loopback; a page is its body, or a function that writes the answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
            page = pages.get(self.path.partition("?")[0], b"")
            if callable(page):
                page(self)
                return
            self.send_response(200 if self.path.partition("?")[0] in pages else 404)
            self.send_header("Set-Cookie", "a=b")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def guard(server: ThreadingHTTPServer, **options: object) -> Guard:
    """Let this test's own server through, whatever the host's name."""
    usual: dict[str, object] = {
        "resolve": lambda host, port: ["127.0.0.1"],
        "allowed": LOOPBACK,
        "ports": [server.server_port],
    }
    return Guard(**(usual | options))  # type: ignore[arg-type]


def redirect(to: str) -> Page:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Set-Cookie", "session=1")
        handler.end_headers()

    return answer


PRIVATE = """
127.0.0.1 127.1 127.0.0.1. 0.0.0.0 0 localhost localhost. LOCALHOST 2130706433 0x7f000001 0x7f.0.0.1 017700000001
0177.0.0.1 127.0.1 127.0.0.001 10.0.0.1 10.255.255.255 172.16.0.1 172.31.9.9 192.168.1.1 169.254.169.254 169.254.1.1
100.64.0.1 100.100.100.200 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 239.1.2.3 240.0.0.1
255.255.255.255 168.63.129.16 192.88.99.1 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:169.254.169.254]
[::127.0.0.1] [0:0:0:0:0:ffff:10.0.0.1] [fe80::1] [fe80::1%25eth0] [fc00::1] [fd00:ec2::254] [ff02::1] [fec0::1]
[64:ff9b::7f00:1] [64:ff9b::169.254.169.254] [64:ff9b:1::a00:1] [2002:7f00:1::] [2002:a9fe:a9fe::1] [2001::1]
[2001:db8::1] [100::1] １２７.0.0.1 ①②⑦.⓪.⓪.① 127。0。0。1 0x7f.1 [::ffff:0:127.0.0.1] metadata 169.254.169.254.
"""


@pytest.mark.parametrize("host", PRIVATE.split())
def test_it_goes_nowhere_inside(host: str) -> None:
    with pytest.raises(FetchError):
        fetch(f"http://{host}/latest/meta-data/")


ODD = """
ftp://blog.example/ file:///etc/passwd gopher://blog.example/ http:///feed http://blog.example:22/ data:text/xml,x
https://blog.example:8443/ http://user:secret@blog.example/ http://blog.example\\@127.0.0.1/ http://blog.example:80:80/
http://[::1/ javascript:alert(1) http://blog.example:99999/ //blog.example/ blog.example
"""
SPLIT = [
    "http://bl\tog.example/",
    "http://blog.example/\r\nHost: inside",
    "http://blog example/",
    "http://" + "a" * 3000,
]


@pytest.mark.parametrize("url", [*ODD.split(), *SPLIT])
def test_it_asks_only_for_plain_addresses(url: str) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    with pytest.raises(FetchError):
        fetch(url, Guard(resolve=never))


@pytest.mark.parametrize(
    "answer", [["10.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:10.0.0.1"], ["fe80::1%2"], []]
)
def test_one_private_address_condemns_a_host(answer: list[str]) -> None:
    with pytest.raises(FetchError, match="private network"):
        fetch("http://blog.example/", Guard(resolve=lambda host, port: answer))


def test_it_connects_to_the_address_it_checked() -> None:
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    with site({"/feed": b"<rss/>"}) as server:
        found = fetch(f"http://blog.example:{server.server_port}/feed", guard(server, resolve=rebinding))

    assert found.body == b"<rss/>"
    assert asked == ["blog.example"]
    assert server.asked[0][1]["Host"] == f"blog.example:{server.server_port}"  # type: ignore[attr-defined]


def test_it_follows_three_redirects_and_carries_no_cookie() -> None:
    hops: dict[str, Page | bytes] = {f"/{n}": redirect(f"/{n + 1}") for n in range(5)}
    with site(hops | {"/4": b"far", "/5": b"too far"}) as server:
        root = f"http://blog.example:{server.server_port}"
        assert fetch(f"{root}/1", guard(server)).body == b"far"
        with pytest.raises(FetchError, match="sends on too often"):
            fetch(f"{root}/0", guard(server))

    assert all("Cookie" not in headers for _path, headers in server.asked)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "to",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/",
        "file:///etc/passwd",
        "http://[::1]/",
        "//[::1]/",
        "http://[::1",
    ],
)
def test_every_redirect_is_checked_again(to: str) -> None:
    with site({"/": redirect(to)}) as server, pytest.raises(FetchError):
        fetch(f"http://127.0.0.1:{server.server_port}/", guard(server, ports=[server.server_port, 80]))


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _byte in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.1)
    except OSError:
        return


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    try:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for number in range(100):
            handler.wfile.write(b"X-%d: y\r\n" % number)
            time.sleep(0.1)
    except OSError:
        return


@pytest.mark.parametrize("page", [drip, drip_headers])
def test_a_server_that_drips_is_given_up(page: Page) -> None:
    with site({"/": page}) as server:
        started = time.monotonic()
        with pytest.raises(FetchError, match="takes too long"):
            fetch(f"http://blog.example:{server.server_port}/", guard(server, seconds=0.6))

    assert time.monotonic() - started < 4


def zipped(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.end_headers()
    handler.wfile.write(gzip.compress(b"x" * 3_000_000))


def test_too_much_is_refused_also_when_it_was_packed_small() -> None:
    with site({"/": b"x" * 3_000_000, "/zip": zipped}) as server:
        root = f"http://blog.example:{server.server_port}"
        assert len(fetch(f"{root}/zip", guard(server)).body) == 3_000_000
        for path in ("/", "/zip"):
            with pytest.raises(FetchError, match="more than 2 MB"):
                fetch(root + path, guard(server, size=2_000_000))


def test_it_says_what_happened() -> None:
    with site({}) as server:
        port = server.server_port
        with pytest.raises(FetchError, match="error 404"):
            fetch(f"http://blog.example:{port}/", guard(server))
    with pytest.raises(FetchError, match="does not answer"):
        fetch(f"http://blog.example:{port}/", guard(server))

    def unknown(host: str, port: int) -> list[str]:
        raise OSError

    with pytest.raises(FetchError, match=r"no host blog\.example"):
        fetch("https://blog.example/", Guard(resolve=unknown))


def certificate(folder: Path, host: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    unlocked = serialization.NoEncryption()
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unlocked)
    )
    return file


def test_a_certificate_must_be_the_hosts_own(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "blog.example")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(pem)
    with site({"/": b"sealed"}, served) as server:
        trusting = guard(server, context=ssl.create_default_context(cafile=str(pem)))
        assert fetch(f"https://blog.example:{server.server_port}/", trusting).body == b"sealed"
        with pytest.raises(FetchError, match="certificate"):
            fetch(f"https://other.example:{server.server_port}/", trusting)
        with pytest.raises(FetchError, match="certificate"):
            fetch(f"https://blog.example:{server.server_port}/", guard(server))


FRONT = b"""<!DOCTYPE html><html><head><title>B</title>
<link rel="alternate" type="application/rss+xml" title="Comments" href="/comments/feed/">
<link rel="alternate" type="application/rss+xml" title="B" href="/feed/?a=1&amp;b=2"></head><body>Hello</body></html>"""


@pytest.mark.django_db
def test_a_front_page_leads_to_its_feed(publication: Publication) -> None:
    pages: dict[str, Page | bytes] = {"/": FRONT, "/feed/": feed(item("Un", "<p>Un.</p>")).encode()}
    said = StringIO()
    with site(pages) as server:
        address = f"http://blog.example:{server.server_port}/"
        call_command("import_articles", "pas", address, guard=guard(server), stdout=said)

    assert "1 new" in said.getvalue()
    assert Article.objects.get().source.location == f"{address}feed/?a=1&b=2"  # type: ignore[union-attr]
    assert [path for path, _headers in server.asked] == ["/", "/feed/?a=1&b=2"]  # type: ignore[attr-defined]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("page", "sentence"), [(b"<html>no feed", "names no feed"), (b"<html><link rel=alternate>", "no feed")]
)
def test_a_page_without_feed_is_told(publication: Publication, page: bytes, sentence: str) -> None:
    with site({"/": page}) as server, pytest.raises(Exception, match=sentence):
        call_command("import_articles", "pas", f"http://blog.example:{server.server_port}/", guard=guard(server))


@pytest.mark.django_db
def test_a_feed_that_names_a_private_feed_is_not_followed(publication: Publication) -> None:
    page = b'<html><link rel="alternate" type="application/atom+xml" href="http://169.254.169.254/feed">'
    with site({"/": page}) as server, pytest.raises(Exception, match="no address that can be fetched"):
        call_command("import_articles", "pas", f"http://blog.example:{server.server_port}/", guard=guard(server))
