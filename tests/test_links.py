"""Tokens: what they open, and that nothing else does."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletters import links
from newsletters.links import EPOCH, BadToken, Purpose, Token

numbers = st.integers(0, 2**40 - 1)
days = st.dates(EPOCH, EPOCH + timedelta(days=65535))
slots = st.integers(0, 2**48 - 1)


@given(st.sampled_from(Purpose), numbers, days, slots)
def test_it_opens_what_it_sealed_in_either_case(purpose: Purpose, number: int, day: date, slot: int) -> None:
    token = links.seal(purpose, number, day, slot)

    assert len(token) <= 50
    assert links.unseal(purpose, token) == links.unseal(purpose, token.upper()) == Token(number, day, slot)


def test_the_same_reader_and_day_give_the_same_token() -> None:
    assert links.seal(Purpose.MESSAGE, 7, date(2026, 11, 23)) == links.seal(Purpose.MESSAGE, 7, date(2026, 11, 23))


def test_a_token_opens_nothing_but_its_purpose() -> None:
    token = links.seal(Purpose.LEAVE, 1)

    for purpose in set(Purpose) - {Purpose.LEAVE}:
        with pytest.raises(BadToken):
            links.unseal(purpose, token)


def test_changing_any_character_breaks_it() -> None:
    token = links.seal(Purpose.READER, 123456, date(2026, 11, 23), 9)

    for place, letter in enumerate(token):
        for other in {"a", "q", "7"} - {letter}:
            with pytest.raises(BadToken):
                links.unseal(Purpose.READER, token[:place] + other + token[place + 1 :])


@given(st.text(max_size=80))
def test_any_other_text_is_a_bad_token(text: str) -> None:
    with pytest.raises(BadToken):
        links.unseal(Purpose.LEAVE, text)


def test_an_old_key_still_opens_old_mails(settings: Any) -> None:
    old = links.seal(Purpose.LEAVE, 5)
    keys = settings.KEYS
    settings.KEYS = type(keys)(keys.secret, keys.suppression, {**keys.links, 2: b"k" * 32})

    assert links.unseal(Purpose.LEAVE, old).number == 5
    assert links.seal(Purpose.LEAVE, 5) != old


def test_a_code_has_six_digits() -> None:
    codes = {links.code(Purpose.CONFIRM, number) for number in range(200)}

    assert len(codes) > 190
    assert all(len(code) == 6 and code.isdigit() for code in codes)
