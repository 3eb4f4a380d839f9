import re
from collections.abc import Callable

import pytest
from django.utils import translation

from newsletters import markup
from newsletters.plain import plain


def test_it_keeps_raw_html_as_text() -> None:
    shown = markup.html("<script>alert(1)</script> <b>fat</b>\n\n<img src=x onerror=alert(1)>")

    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;b&gt;fat&lt;/b&gt;" in shown


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "JaVaScRiPt:x", "data:text/html,x", "vbscript:x", "//evil.example"]
)
@pytest.mark.parametrize("render", [markup.html, markup.email_html])
def test_it_follows_no_other_address_than_a_readers(address: str, render: Callable[[str], str]) -> None:
    shown = render(f"[press]({address}) ![seen]({address}) <{address}>")

    assert not re.search(r"(href|src)=", shown)
    assert "press" in shown


def test_a_typed_line_break_is_a_line_break() -> None:
    assert markup.html("À demain.\nMaud") == "<p>À demain.<br>\nMaud</p>\n"


def test_a_full_stop_without_space_makes_no_link() -> None:
    assert "<a" not in markup.html("C’est la fin.Et le début.It goes on")
    assert markup.html("https://a.example/x").count("<a ") == 1


def test_a_page_loads_no_picture_from_elsewhere() -> None:
    shown = markup.html("![Une chaise](https://img.example/chaise.jpg)")

    assert "<img" not in shown
    assert '<a href="https://img.example/chaise.jpg"' in shown
    assert ">Une chaise</a>" in shown


def test_a_page_has_no_reader() -> None:
    assert markup.html("Bonjour {{ prénom|à vous }}, et {{ first_name }}.") == "<p>Bonjour à vous, et.</p>\n"


def test_relative_links_of_a_page_lead_to_where_the_text_first_stood() -> None:
    assert 'href="https://blog.example/c"' in markup.html("[un](../c)", "https://blog.example/a/")
    assert 'href="/c"' in markup.html("[un](/c)")


def test_a_quotation_in_bold_is_the_step() -> None:
    step, quotation = "> **Votre pas.** Ce soir.", "> Ce soir, dit-il."

    assert '<div class="step">' in markup.html(step)
    assert '<td class="step">' in markup.email_html(step)
    assert "blockquote" in markup.html(quotation)
    assert plain(step) == "   | Votre pas\n   | Ce soir."
    assert plain(quotation) == "> Ce soir, dit-il."


def test_only_the_last_lone_link_of_a_mail_is_a_button() -> None:
    shown = markup.email_html("[Voir](https://v.example)\n\nTexte.\n\n**[Choisir](https://c.example)**\n\nFin.")

    assert shown.count('class="button"') == 1
    assert re.search(r'<td class="button">(<strong>)?<a href="https://c.example">', shown)


def test_a_long_or_bare_link_is_no_button() -> None:
    assert "button" not in markup.email_html("https://v.example/")
    assert "button" not in markup.email_html(f"[{'mot ' * 30}](https://v.example)")


def test_its_text_is_worth_reading() -> None:
    text = plain(
        """## Deux choses

Voici **un** [lien](https://a.example/) et [le même](https://a.example/), puis [un autre](https://b.example/).

- un
- deux
  - dedans

3. trois
4. quatre

> On dit que
> c’est vrai.

| Soir | Lignes |
|------|--------|
| lundi | *3* |

![Une chaise](https://img.example/c.jpg)

[Choisir un créneau](https://c.example/)

Ici : https://d.example/ ou <eve@example.com>.
"""
    )

    assert (
        text.strip()
        == """Deux choses
-----------

Voici un lien [1] et le même [1], puis un autre [2].

- un
- deux
  - dedans

3. trois
4. quatre

> On dit que
> c’est vrai.

Soir | Lignes
lundi | 3

[Une chaise]

Choisir un créneau:
https://c.example/

Ici : https://d.example/ ou eve@example.com.

[1] https://a.example/
[2] https://b.example/"""
    )


def test_every_line_of_a_long_quotation_has_its_bar() -> None:
    text = plain("> **Votre pas.** " + "un mot " * 40)

    assert all(line.startswith("   | ") and len(line) < 72 for line in text.splitlines())


def test_deep_nesting_ends() -> None:
    for text in (">" * 5000 + " x", "- " * 5000 + "x", "[" * 5000, "*" * 5000 + "a", "`" * 5001):
        with translation.override("en"):
            assert plain(text) is not None
            assert markup.email_html(text) is not None
