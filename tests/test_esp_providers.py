"""Which providers are taken, on whose word, and what the operator is told of them."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from newsletters.transports import TransportURLError, check_url, connect
from newsletters.transports.providers import PROVIDERS, REFUSED
from tests.providers import NAMES, open_provider
from tests.providers.day import Open

__all__ = ["open_provider"]


def test_a_provider_that_tracks_all_the_same_needs_the_operators_word() -> None:
    with pytest.raises(TransportURLError, match="tracking=accepted"):
        check_url("esp:brevo")
    with pytest.raises(TransportURLError, match="tracking=accepted"):
        connect("esp:brevo?tracking=maybe")

    check_url("esp:brevo?tracking=accepted")


@pytest.mark.parametrize("name", [*REFUSED, "pigeon"])
def test_a_provider_that_cannot_serve_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(TransportURLError, match=name):
        check_url(f"esp:{name}?tracking=accepted")


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_knocks_at_the_provider(
    name: str, db: None, open_provider: Open, settings: Any, data_dir: Path
) -> None:
    (data_dir / "keys").touch()
    provider = open_provider(name)

    assert line("mail server") == "ok"

    settings.ANYMAIL = {
        key: value.replace(provider.url, "http://127.0.0.1:9") for key, value in provider.settings.items()
    }
    assert "127.0.0.1" in line("mail server")


def line(check: str) -> str:
    out = StringIO()
    try:
        call_command("doctor", stdout=out)
    except SystemExit:
        pass
    return next(one[13:] for one in out.getvalue().splitlines() if one.startswith(check))


def test_who_leaves_at_the_provider_has_left() -> None:
    assert all(provider.leaves("unsubscribed") for provider in PROVIDERS.values())
    assert PROVIDERS["brevo"].leaves("rejected", "blocked")
    assert PROVIDERS["postmark"].leaves("rejected", "blocked")
    assert not PROVIDERS["mailgun"].leaves("rejected", "blocked")
    assert not any(provider.leaves("bounced", "bounced") for provider in PROVIDERS.values())


def test_the_operators_page_has_a_line_for_each_provider(settings: Any) -> None:
    page = (settings.BASE_DIR / "docs/providers.md").read_text()

    for provider in PROVIDERS.values():
        line = next(line for line in page.splitlines() if line.startswith(f"| `esp:{provider.name}"))
        assert provider.title in line
        assert f"| {provider.limit:,} |" in line
    for name in REFUSED:
        assert f"`{name}`" in page
