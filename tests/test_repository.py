import re
import subprocess
from pathlib import Path

import polib
import pytest

from tests.processes import ROOT

pytestmark = pytest.mark.sqlite

# Spelled in pieces, because this file is searched as well.
HOSTS = ["py" + "pi.org", "files.python" + "hosted.org", "registry.npm" + "js.org", "index" + "-url", "find" + "-links"]
PLACES = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/opt" + "/wheels"]


def tracked() -> list[Path]:
    """Return the repository's own files, also those not yet committed; of a copy without git, none."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    return [path for name in listing.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        try:
            found[str(path.relative_to(ROOT))] = path.read_text()
        except UnicodeDecodeError:
            continue
    return found


@pytest.mark.parametrize("word", [*HOSTS, *PLACES])
def test_no_registry_and_no_machine_is_named(texts: dict[str, str], word: str) -> None:
    # The option that keeps an index out of the lists is how `make lock` obeys this rule.
    allowed = {"Makefile"} if word in HOSTS[3:] else set()

    assert [name for name, text in texts.items() if word in text and name not in allowed] == []


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    lines = (ROOT / f"requirements/{name}.txt").read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]

    assert len(pins) > 20
    for pin in pins:
        assert re.match(r"[\w.\[\]-]+==[\w.]+ .*--hash=sha256:[0-9a-f]{64}", pin), pin[:80]


def test_french_is_complete_and_compiled() -> None:
    folder = ROOT / "locale/fr/LC_MESSAGES"
    source, compiled = polib.pofile(str(folder / "django.po")), polib.mofile(str(folder / "django.mo"))
    entries = [entry for entry in source if not entry.obsolete]

    assert [entry.msgid for entry in entries if not entry.translated() or "fuzzy" in entry.flags] == []
    known = {(entry.msgctxt, entry.msgid): (entry.msgstr, entry.msgstr_plural) for entry in compiled}
    assert known == {(entry.msgctxt, entry.msgid): (entry.msgstr, entry.msgstr_plural) for entry in entries}


def test_french_keeps_every_placeholder() -> None:
    source = polib.pofile(str(ROOT / "locale/fr/LC_MESSAGES/django.po"))
    field = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\{.*?\}\}")

    for entry in source:
        if entry.translated() and not entry.msgid_plural:
            assert sorted(field.findall(entry.msgid)) == sorted(field.findall(entry.msgstr)), entry.msgid


def test_french_knows_every_sentence_of_the_source() -> None:
    """Sentences in code and templates that the catalogue lacks mean that `make messages` was forgotten."""
    known = {entry.msgid for entry in polib.pofile(str(ROOT / "locale/fr/LC_MESSAGES/django.po")) if not entry.obsolete}
    called = re.compile(r'\b(?:_|gettext|gettext_lazy|gettext_noop)\(\s*"((?:[^"\\]|\\.)*)"\s*\)')
    tagged = re.compile(r"""\{%\s*translate\s+(["'])(.*?)\1""")

    missing = {}
    for path in tracked():
        if path.suffix == ".py" and path.parts[len(ROOT.parts)] != "tests":
            found = {match.replace('\\"', '"') for match in called.findall(path.read_text())}
        elif path.suffix in {".html", ".txt"} and "templates" in path.parts:
            found = {words for _, words in tagged.findall(path.read_text())}
        else:
            continue
        if lacking := found - known:
            missing[path.name] = lacking
    assert missing == {}


def test_the_readme_shows_the_page_and_the_two_commands() -> None:
    opening = (ROOT / "README.md").read_text()[:2500]

    assert "docs/pictures/opt-in.png" in opening
    assert "make run" in opening
