"""Stopping a send by the command and on the desk."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from newsletters import halt, promise
from newsletters.models import Halt, Member, Publication
from newsletters.models.outgoing import State
from tests.servers import MailServer
from tests.test_halt import MONDAY, ends, mail_url, planned, queue, some_have_it  # noqa: F401
from tests.test_planning import make_issue


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("stop_send", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_stops_and_decides(planned: Any, publication: Publication, now: Any) -> None:  # noqa: F811
    issue = planned(2)
    other = make_issue(publication, "remplaçant")

    assert f"Issue {issue.pk}, “d1”, is stopped." in (said := command("pas"))
    assert "0 have it, 0 may have it, 2 wait, 0 do without." in said
    assert "goes on" in command("pas", "--go-on")
    with pytest.raises(CommandError, match="is not stopped"):
        command("pas", "--issue", str(issue.pk), "--leave")
    command("pas", "--issue", str(issue.pk))
    assert "goes to those without" in command("pas", "--instead", str(other.pk))
    assert f"Issue {other.pk}" in command("pas")
    assert "to nobody more" in command("pas", "--leave")
    assert ends() == {(State.MISSED, "stopped"): 2}


def test_the_command_says_what_is_wrong(publication: Publication) -> None:
    for arguments in (("nobody",), ("pas",), ("pas", "--issue", "99")):
        with pytest.raises(CommandError):
            command(*arguments)


def test_the_desk_stops_shows_and_decides(planned: Any, desk: Client, smtp: MailServer) -> None:  # noqa: F811
    issue = planned(3)
    some_have_it(smtp, 0)
    promise.tick(MONDAY)
    assert "Stop this send" in desk.get("/desk/pas/").content.decode()
    assert desk.get("/desk/pas/stop/").status_code == 405

    page = desk.post("/desk/pas/stop/", {"issue": issue.pk}, follow=True).content.decode()
    have = desk.get(f"/desk/pas/stop/{issue.pk}/?list=have").content.decode()
    today = desk.get("/desk/pas/").content.decode()
    desk.get(f"/desk/pas/stop/{issue.pk}/?go_on=1&leave=1")
    assert Halt.objects.standing().exists()
    desk.post(f"/desk/pas/stop/{issue.pk}/", {"go_on": "1"})

    assert "reader1@example.com" in page
    assert "reader0@example.com" not in page
    assert "reader0@example.com" in have
    assert "reader1@example.com" not in have
    assert "You stopped today’s email." in today
    assert not Halt.objects.standing().exists()


def test_the_desk_sends_another_or_leaves(planned: Any, desk: Client, publication: Publication) -> None:  # noqa: F811
    issue = planned(2)
    other = make_issue(publication, "remplaçant")
    for pk, choice in ((issue.pk, {"instead": str(other.pk)}), (other.pk, {"leave": "1"})):
        desk.post("/desk/pas/stop/", {"issue": pk})
        desk.post(f"/desk/pas/stop/{pk}/", {"instead": str(pk)})
        desk.post(f"/desk/pas/stop/{pk}/", choice)

    assert list(Halt.objects.order_by("pk").values_list("decision", flat=True)) == ["instead", "leave"]
    assert ends() == {(State.MISSED, "stopped"): 2}


def test_nobody_stops_another_publications_send(planned: Any, desk: Client, publication: Publication) -> None:  # noqa: F811
    issue = planned(1)
    other = Publication.objects.create(name="Autre", slug="autre", author="Bob", sender="b@b.example")
    foreign = make_issue(other, "foreign")
    halt.stop(foreign, MONDAY)

    assert desk.post("/desk/pas/stop/", {"issue": foreign.pk}).status_code == 404
    assert desk.post("/desk/autre/stop/", {"issue": foreign.pk}).status_code == 404
    assert desk.get(f"/desk/pas/stop/{foreign.pk}/").status_code == 404
    Member.objects.update(role=Member.Role.VIEWER)
    assert desk.post("/desk/pas/stop/", {"issue": issue.pk}).status_code == 403

    assert Halt.objects.count() == 1


def test_numbers_from_outside_are_read_with_care(planned: Any, desk: Client) -> None:  # noqa: F811
    issue = planned(1)
    for wrong in ("", "-1", "x", "9" * 40, "²"):
        assert desk.post("/desk/pas/stop/", {"issue": wrong}).status_code == 404
    halt.stop(issue, MONDAY)
    for wrong in ("-1", "x", "9" * 40, "²"):
        assert desk.get(f"/desk/pas/stop/{issue.pk}/", {"after": wrong}).status_code == 200
        assert desk.post(f"/desk/pas/stop/{issue.pk}/", {"instead": wrong}).status_code == 404
