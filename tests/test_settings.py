import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from funnel import keys
from tests.processes import ROOT, environment, manage

pytestmark = pytest.mark.sqlite

WRONG = {
    "DATA_DIR": "/proc/none",
    "DEBUG": "perhaps",
    "PORT": "http",
    "BASE_URL": "letters.example.com",
    "TRUSTED_PROXIES": "10.0.0.0/99",
    "MAIL_URL": "pigeon://loft",
    "DATABASE_URL": "mysql://localhost/funnel",
    "REDIS_URL": "localhost:6379",
    "ALERT_URLS": "pigeon://loft",
    "HEARTBEAT_URL": "hc-ping.com/uuid",
}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_wrong_value_stops_the_start_with_one_sentence(tmp_path: Path, name: str, value: str) -> None:
    answer = manage(tmp_path, "check", **{name: value})

    assert answer.returncode == 1
    assert answer.stderr.startswith(name)
    assert answer.stderr.count("\n") == 1


def test_an_address_with_accents_is_asked_for_in_ascii(tmp_path: Path) -> None:
    """A List-Unsubscribe with anything else could not be written."""
    assert "xn--" in manage(tmp_path, "check", BASE_URL="https://é.example").stderr


@pytest.mark.parametrize("port", ["0", "65536", "-1", ""])
def test_a_port_is_a_number_that_exists(tmp_path: Path, port: str) -> None:
    assert manage(tmp_path, "check", PORT=port).stderr.startswith("PORT is")


def test_a_relay_without_server_is_refused(tmp_path: Path) -> None:
    assert manage(tmp_path, "check", MAIL_URL="smtp://").stderr.startswith("MAIL_URL names no server")


def test_a_password_in_clear_stops_the_start(tmp_path: Path) -> None:
    answer = manage(tmp_path, "check", MAIL_URL="smtp://maud:s3cret@mail.example:587")

    assert answer.stderr.startswith("MAIL_URL would send its password in clear")
    assert "s3cret" not in answer.stderr


def test_broken_keys_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("{}")

    answer = manage(tmp_path, "check")

    assert answer.stderr.startswith(f"DATA_DIR ({tmp_path}) cannot be used")


def test_production_settings_pass_the_deployment_check(tmp_path: Path) -> None:
    answer = manage(
        tmp_path,
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        BASE_URL="https://letters.example.com",
        MAIL_URL="smtp://mail.example.com",
    )

    assert answer.returncode == 0, answer.stderr


def test_each_setting_is_documented() -> None:
    code = (ROOT / "funnel/settings.py").read_text()
    read = set(re.findall(r'(?:environ\.get|flag|words|number)\(\s*"(\w+)"', code))
    assert len(read) >= 10

    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))

    assert documented >= read
    assert documented - read <= {"ANYMAIL_…"}


def test_keys_are_made_once_even_by_many_at_once(tmp_path: Path) -> None:
    code = "import sys, pathlib; from funnel import keys; print(keys.load(pathlib.Path(sys.argv[1])).secret)"
    command = [sys.executable, "-c", code, str(tmp_path / "keys")]
    many = [
        subprocess.Popen(command, cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]

    secrets = {process.communicate(timeout=60)[0] for process in many}

    assert len(secrets) == 1
    assert len(secrets.pop()) > 50
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600
    assert not list(tmp_path.glob("tmp*"))


def test_old_link_keys_stay_and_no_key_is_another(tmp_path: Path) -> None:
    made = keys.load(tmp_path / "keys")
    raw = json.loads((tmp_path / "keys").read_text())
    raw["links"]["2"] = "00" * 32
    (tmp_path / "keys").write_text(json.dumps(raw))

    again = keys.load(tmp_path / "keys")

    assert again.links[1] == made.links[1]
    assert len({made.secret.encode(), made.suppression, made.links[1], made.derived("a"), made.derived("b")}) == 5
