import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from newsletters.addresses import Address, mailbox_key, masked, normalise, readable, typo_hint
from newsletters.models.subscriber import keyed_hash


def test_it_normalises_what_people_type() -> None:
    typed = " \u200bmailto:Lucas.Dupin+a@Menuiserie.EXAMPLE\ufeff "

    assert normalise(typed) == Address(
        "Lucas.Dupin+a@menuiserie.example",
        "lucas.dupin+a@menuiserie.example",
        keyed_hash("lucas.dupin+a@menuiserie.example"),
    )


def test_it_knows_domains_of_every_script() -> None:
    address = normalise("jo@müller-straße.example")

    assert address.address.startswith("jo@xn--")
    assert address.key.isascii()
    assert readable(address.address) == "jo@müller-straße.example"
    assert readable("jo@xn--zzzzzzzz99999.example") == "jo@xn--zzzzzzzz99999.example"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "lucas",
        "a@b",
        "a b@x.fr",
        "a,b@x.fr",
        "a@x..fr",
        "a@localhost",
        "a@[127.0.0.1]",
        '"a b"@x.fr',
        "Lucas <a@x.fr>",
        "a@x.fr\r\nBcc: b@x.fr",
        "a@x.fr\0",
        "a" * 65 + "@x.fr",
        "a@" + "x" * 64 + ".fr",
        "élodie@x.fr",
    ],
)
def test_it_refuses_what_no_server_takes(wrong: str) -> None:
    with pytest.raises(ValidationError) as refused:
        normalise(wrong)

    assert refused.value.messages[0].endswith(".")


@given(st.text(max_size=80))
def test_whatever_is_typed_gives_an_ascii_address_or_a_sentence(raw: str) -> None:
    try:
        address = normalise(raw)
    except ValidationError:
        return
    assert address.address.isascii()
    assert not set(address.address) & set('\r\n\t <>,;"\\')
    assert normalise(address.address) == address


def test_one_mailbox_has_one_key() -> None:
    spellings = ["lucas.dupin@gmail.com", "LucasDupin+news@googlemail.com", "l.u.c.a.s.dupin@gmail.com"]

    assert {mailbox_key(each) for each in spellings} == {"lucasdupin@gmail.com"}
    assert mailbox_key("a.b+c@x.fr") == "a.b@x.fr"
    assert mailbox_key("+@x.fr") == "+@x.fr"


def test_it_shows_no_more_than_its_owner_needs() -> None:
    assert masked("claire@soleil.example") == "c•••@s•••.example"
    assert masked("a@xn--bcher-kva.example") == "a•••@b•••.example"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gmial.com", "gmail.com"),
        ("gmail.co", "gmail.com"),
        ("gmail.fr", "gmail.com"),
        ("hotmial.fr", "hotmail.fr"),
        ("wanado.fr", "wanadoo.fr"),
        ("Orage.fr", "orange.fr"),
    ],
)
def test_it_asks_about_a_likely_slip(typed: str, meant: str) -> None:
    assert typo_hint(f"lucas@{typed}") == f"lucas@{meant}"


@pytest.mark.parametrize(
    "right", ["gmail.com", "email.com", "ymail.com", "live.be", "gmx.net", "univ-pau.fr", "example.com", "me.com"]
)
def test_it_leaves_real_providers_alone(right: str) -> None:
    assert typo_hint(f"lucas@{right}") is None
