from datetime import UTC, date, datetime, time
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from newsletters.admin.publication import PublicationAdmin
from newsletters.models import (
    Article,
    Bounce,
    Break,
    Clock,
    Day,
    Delivery,
    Entry,
    Heartbeat,
    Issue,
    IssueText,
    Letter,
    Member,
    PromiseChange,
    Publication,
    Rehearsal,
    Relay,
    Revision,
    Series,
    Source,
    Stop,
    Subscriber,
    Suppression,
    Text,
    Walk,
)
from newsletters.models.series import RANK_GAP
from newsletters.rendering import revision_of
from optin.models import Consent, OptInPage, Request
from tests.conftest import Reader

HOSTILE = "<script>alert(1)</script>"
LEDGERS = {Consent, Letter, Request, Suppression, Walk, Day, Clock, Revision, Text, IssueText, Heartbeat, Rehearsal}
LEDGERS |= {Bounce, Stop}
NOT_BY_HAND = LEDGERS | {Subscriber, Article, Source}


@pytest.fixture
def boss(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def series(publication: Publication) -> Series:
    return Series.objects.create(publication=publication, name="Bienvenue", slug="bienvenue", welcome=True)


@pytest.fixture
def world(publication: Publication, page: OptInPage, series: Series, reader: Reader) -> list[Any]:
    """One row of everything, with hostile words where they come from outside."""
    now = datetime.now(UTC)
    source = Source.objects.create(
        publication=publication, location="https://b.example/feed", format="rss", title=HOSTILE
    )
    article = Article.objects.create(
        publication=publication, source=source, title=HOSTILE, body="Texte", content_hash="h"
    )
    issue = Issue.objects.create(
        publication=publication, subject=HOSTILE, body="Texte", public_id="n1", article=article
    )
    text = Text.objects.create(publication=publication, article=article)
    alice = reader(first_name=HOSTILE, origin=HOSTILE)
    consent = Consent.record(publication, Consent.Kind.REQUEST, HOSTILE, "/pas/", now, "r", "i", HOSTILE)
    outgoing = {"due_at": now, "try_at": now, "late_until": now}
    Delivery.objects.create(
        local_date=now.date(),
        subscriber=alice,
        publication=publication,
        way="daily",
        issue=issue,
        reply=HOSTILE,
        **outgoing,
    )
    letter = Letter.objects.create(
        publication=publication,
        kind="access",
        cause="c",
        address="a@b.example",
        address_key="a@b.example",
        language="fr",
        context={"minute": 1},
        reply=HOSTILE,
        **outgoing,
    )
    return [
        *(publication, page, series, source, article, issue, text, alice, consent, letter, revision_of(issue)),
        Member.objects.create(publication=publication, user=User.objects.get(username="boss")),
        Relay.objects.create(name=HOSTILE),
        series.append(issue),
        IssueText.objects.create(issue=issue, text=text),
        Day.objects.create(publication=publication, date=date(2026, 11, 21), issue=issue, fixed_at=now),
        Clock.objects.get(),
        alice.walks.get(),
        Heartbeat.objects.create(name="tick", at=now),
        Bounce.objects.create(key="k", kind="hard", door="mail", publication=publication, text=HOSTILE, at=now),
        Stop.objects.create(publication=publication, cause="complaints", at=now),
        Break.objects.create(publication=publication, first=date(2027, 5, 1), last=date(2027, 5, 2)),
        PromiseChange.objects.create(
            publication=publication, first=date(2027, 5, 1), hour=time(7), weekdays="1", late_until=time(22)
        ),
        Rehearsal.objects.create(publication=publication, date=date(2027, 5, 1), at=now, fingerprint="f"),
        Suppression.objects.create(publication=publication, address_hash="h", reason="left", since=now),
        Request.objects.create(
            page=page,
            consent=consent,
            address="a@b.example",
            address_key="a@b.example",
            zone="UTC",
            created_at=now,
            first_name=HOSTILE,
        ),
    ]


def of(row: Any, page: str, *args: object) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=args)


def test_every_page_opens_for_a_superuser(boss: Client, world: list[Any]) -> None:
    ours = {model for model in admin.site._registry if model._meta.app_label in {"newsletters", "optin"}}
    assert {type(row) for row in world} == ours

    for row in world:
        pages = [of(row, "changelist"), of(row, "changelist") + "?q=texte", of(row, "change", row.pk)]
        for path in pages if type(row) in NOT_BY_HAND else [*pages, of(row, "add")]:
            answer = boss.get(path, follow=True)
            assert answer.status_code == 200, path
            assert HOSTILE not in answer.content.decode(), path


def test_lists_ask_the_database_a_fixed_number_of_times(
    boss: Client, world: list[Any], reader: Reader, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        reader(f"r{number}@example.com")
    for row in world:
        with django_assert_max_num_queries(12):
            boss.get(of(row, "changelist"))


def test_nobody_else_comes_in(client: Client, db: None) -> None:
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    for model in admin.site._registry:
        if model._meta.app_label in {"newsletters", "optin"}:
            assert client.get(of(model, "changelist")).status_code == 403


def test_ledgers_take_no_hand(boss: Client, world: list[Any]) -> None:
    for row in world:
        if type(row) in LEDGERS:
            assert boss.get(of(row, "add")).status_code == 403
            assert boss.post(of(row, "change", row.pk), {"kind": "x"}).status_code == 403
            assert boss.post(of(row, "delete", row.pk), {"post": "yes"}).status_code == 403
            boss.post(of(row, "changelist"), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
            assert type(row).objects.filter(pk=row.pk).exists()


def test_no_page_shows_what_a_link_is_made_of(boss: Client, world: list[Any]) -> None:
    consent = next(row for row in world if isinstance(row, Consent))
    assert consent.salt not in boss.get(of(consent, "change", consent.pk)).content.decode()


def publication_form(publication: Publication, **changed: str) -> dict[str, str]:
    columns = [str(name) for _title, options in PublicationAdmin.fieldsets for name in options["fields"]]
    return {name: str(getattr(publication, name) or "") for name in columns} | changed


def test_a_new_promise_sets_the_clocks(boss: Client, publication: Publication, reader: Reader) -> None:
    reader()

    boss.post(of(publication, "change", publication.pk), publication_form(publication, hour="09:30", weekdays="135"))

    publication.refresh_from_db()
    clock = Clock.objects.get()
    assert (publication.hour, publication.weekdays) == (time(9, 30), "135")
    assert clock.next_at.minute == 30
    assert clock.next_date.isoweekday() in {1, 3, 5}


def test_with_fewer_days_digests_move_to_one_that_is_promised(
    boss: Client, publication: Publication, reader: Reader
) -> None:
    sunday, weekend = reader(digest_on=7), reader("bob@example.com", weekdays="67")

    boss.post(of(publication, "change", publication.pk), publication_form(publication, weekdays="12345"))

    sunday.refresh_from_db()
    weekend.refresh_from_db()
    assert (sunday.digest_on, weekend.weekdays) == (1, "45")


@pytest.mark.parametrize(
    "wrong",
    [{"slug": "admin"}, {"slug": "data"}, {"zone": "Mars/X"}, {"hour": "23:00"}, {"weekdays": "8"}, {"name": "a\nb"}],
)
def test_a_promise_that_cannot_be_kept_is_refused(
    boss: Client, publication: Publication, wrong: dict[str, str]
) -> None:
    answer = boss.post(of(publication, "change", publication.pk), publication_form(publication, **wrong))
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()


def issue_form(publication: Publication, **changed: str) -> dict[str, str]:
    words = {"preheader": "", "article": "", "canonical_url": "", "body": "Bonjour {{ first_name|toi }}"}
    return {"publication": str(publication.pk), "kind": "daily", "state": "draft", "subject": "Un"} | words | changed


def test_an_issue_made_by_hand_has_a_text_and_a_name(boss: Client, publication: Publication) -> None:
    for _twice in range(2):
        assert boss.post(of(Issue, "add"), issue_form(publication)).status_code == 302

    one, two = Issue.objects.all()
    assert one.public_id
    assert one.public_id != two.public_id
    assert set(one.texts.all()).isdisjoint(two.texts.all())
    boss.post(of(Issue, "change", one.pk), issue_form(publication, subject="Deux"))
    assert one.texts.count() == 1


def test_an_unknown_field_is_refused(boss: Client, publication: Publication) -> None:
    answer = boss.post(of(Issue, "add"), issue_form(publication, body="{{ password }}"))
    assert "errorlist" in answer.content.decode()
    assert not Issue.objects.exists()


def test_it_previews_without_saving(boss: Client, publication: Publication) -> None:
    boss.post(of(Issue, "add"), issue_form(publication, body=f"Bonjour {{{{ prénom|toi }}}}\n\n{HOSTILE}"))
    issue = Issue.objects.get()

    page = boss.get(reverse("admin:newsletters_issue_preview", args=[issue.pk]))
    frame = boss.get(reverse("admin:issue_preview_html", args=[issue.pk]))

    assert "Bonjour toi" in page.content.decode()
    assert "Bonjour toi" in frame.content.decode()
    for answer in (page, frame):
        assert HOSTILE not in answer.content.decode()
    assert frame["Content-Security-Policy"].startswith("sandbox allow-popups")
    assert frame["X-Frame-Options"] == "SAMEORIGIN"
    assert not Revision.objects.exists()
    boss.logout()
    for name in ("newsletters_issue_preview", "issue_preview_html"):
        assert boss.get(reverse(f"admin:{name}", args=[issue.pk])).status_code == 302


def test_it_queues_what_is_fit_to_go_out(boss: Client, publication: Publication, series: Series) -> None:
    boss.post(of(Issue, "add"), issue_form(publication, subject="Bon"))
    boss.post(of(Issue, "add"), issue_form(publication, subject="Sequence"))
    bad = Issue.objects.create(publication=publication, subject="Mauvais", body="{{ password }}", public_id="x")
    good, step = Issue.objects.get(subject="Bon"), Issue.objects.get(subject="Sequence")
    series.append(step)

    chosen = [good.pk, step.pk, bad.pk]
    boss.post(of(Issue, "changelist"), {"action": "queue", "_selected_action": chosen})

    states = dict(Issue.objects.values_list("subject", "state"))
    assert states == {"Bon": "queued", "Sequence": "queued", "Mauvais": "draft"}
    queue = Series.objects.get(kind="daily")
    assert [entry.issue for entry in queue.entries.all()] == [good]
    assert [entry.series for entry in step.entries.all()] == [series]


def test_it_composes_articles_into_a_sequence(boss: Client, publication: Publication, series: Series) -> None:
    for number in (2, 1):
        Article.objects.create(
            publication=publication,
            title=f"Article {number}",
            body="Une phrase entière. " * 20,
            content_hash=str(number),
            url=f"https://blog.example/{number}",
            published_at=datetime(2026, 1, number, tzinfo=UTC),
        )
    chosen = list(Article.objects.values_list("pk", flat=True))

    nowhere = boss.post(of(Article, "changelist"), {"action": "compose", "_selected_action": chosen}, follow=True)
    assert not Issue.objects.exists()
    assert "messagelist" in nowhere.content.decode()
    body = {"action": "compose", "_selected_action": chosen, "way": "whole", "series": series.pk}
    boss.post(of(Article, "changelist"), body)

    assert [entry.issue.subject for entry in series.entries.select_related("issue")] == ["Article 1", "Article 2"]
    assert {entry.issue.state for entry in series.entries.select_related("issue")} == {"queued"}


def entries_form(series: Series, *rows: tuple[str, int, str]) -> dict[str, str]:
    form = {"publication": str(series.publication_id), "kind": "sequence", "name": series.name, "slug": series.slug}
    old = sum(1 for row in rows if row[0])
    form |= {"entries-TOTAL_FORMS": str(len(rows)), "entries-INITIAL_FORMS": str(old)}
    for number, (pk, issue, rank) in enumerate(rows):
        form |= {f"entries-{number}-id": pk, f"entries-{number}-series": str(series.pk)}
        form |= {f"entries-{number}-issue": str(issue), f"entries-{number}-rank": rank}
    return form


def test_entries_without_a_place_go_to_the_end(boss: Client, publication: Publication, series: Series) -> None:
    issues = [
        Issue.objects.create(publication=publication, subject=f"{n}", body="x", public_id=f"n{n}") for n in range(4)
    ]
    first = series.append(issues[0])

    rows = [(str(first.pk), issues[0].pk, "1024"), ("", issues[1].pk, ""), ("", issues[2].pk, "512")]
    answer = boss.post(of(series, "change", series.pk), entries_form(series, *rows))
    assert answer.status_code == 302
    boss.post(of(Entry, "add"), {"series": series.pk, "issue": issues[3].pk, "rank": "", "pinned_date": ""})

    assert [entry.issue.subject for entry in series.entries.select_related("issue")] == ["2", "0", "1", "3"]


def test_entries_move_up_and_down(boss: Client, publication: Publication, series: Series) -> None:
    for number in range(4):
        made = Issue.objects.create(publication=publication, subject=f"{number}", body="x", public_id=f"n{number}")
        series.append(made)

    def order() -> str:
        return "".join(entry.issue.subject for entry in series.entries.select_related("issue"))

    def move(way: str, *subjects: str) -> str:
        chosen = [Entry.objects.get(issue__subject=subject).pk for subject in subjects]
        boss.post(of(Entry, "changelist"), {"action": way, "_selected_action": chosen})
        return order()

    assert move("earlier", "2", "3") == "0231"
    assert move("later", "0") == "2031"
    assert move("later", "1") == "2031"
    assert move("earlier", "2") == "2031"
    assert sorted(series.entries.values_list("rank", flat=True)) == [RANK_GAP * n for n in (1, 2, 3, 4)]


def test_a_long_series_is_ordered_in_its_list(boss: Client, publication: Publication, series: Series) -> None:
    made = Issue.objects.bulk_create(
        Issue(publication=publication, subject=f"{n}", body="x", public_id=f"n{n}") for n in range(101)
    )
    Entry.objects.bulk_create(Entry(series=series, issue=issue, rank=n) for n, issue in enumerate(made))

    page = boss.get(of(series, "change", series.pk)).content.decode()

    assert "entries-0-rank" not in page
    assert boss.get(of(Entry, "changelist"), {"series__id__exact": series.pk}).status_code == 200


def test_a_relays_password_goes_in_and_never_out(boss: Client, db: None) -> None:
    url = "smtp://maud:s3cret@mail.example:587?tls=starttls"
    boss.post(of(Relay, "add"), {"name": "Mail", "rank": "0", "publication": "", "url": url})
    relay = Relay.objects.get()

    assert relay.url == url
    assert b"s3cret" not in bytes(relay.sealed_url)
    for path in (of(relay, "changelist"), of(relay, "change", relay.pk)):
        assert "s3cret" not in boss.get(path).content.decode()

    boss.post(of(relay, "change", relay.pk), {"name": "Autre", "rank": "1", "publication": "", "url": ""})
    relay.refresh_from_db()
    assert (relay.name, relay.url) == ("Autre", url)


@pytest.mark.parametrize("url", ["http://x", "smtp:", "smtp://h:99999", "esp:", "smtp://h?tls=maybe"])
def test_a_relay_that_leads_nowhere_is_refused(boss: Client, db: None, url: str) -> None:
    answer = boss.post(of(Relay, "add"), {"name": "Mail", "rank": "0", "publication": "", "url": url})
    assert "errorlist" in answer.content.decode()
    assert not Relay.objects.exists()


@pytest.mark.parametrize(
    ("url", "saved"),
    [
        ("smtp://maud:s3cret@mail.example:587", False),
        ("smtp://maud@mail.example", False),
        ("smtp://mail.example", True),
        ("smtp://maud:s3cret@mail.example:587?tls=none", True),
        ("smtp://maud:s3cret@mail.example:587?tls=ssl", True),
        ("smtp://maud:s3cret@localhost", True),
        ("smtp://maud:s3cret@[::1]:25", True),
    ],
)
def test_a_password_leaves_in_clear_only_where_somebody_wrote_so(boss: Client, db: None, url: str, saved: bool) -> None:
    answer = boss.post(of(Relay, "add"), {"name": "Mail", "rank": "0", "publication": "", "url": url})

    assert Relay.objects.exists() is saved
    assert ("tls=starttls" in answer.content.decode()) is not saved


def test_a_subscribers_address_and_status_take_no_hand(boss: Client, reader: Reader) -> None:
    alice = reader()
    body = {"first_name": "Élise", "zone": "Asia/Tokyo", "language": "fr", "tags": "[]", "status": "bounced"}

    boss.post(of(alice, "change", alice.pk), body | {"address": "eve@example.com"})

    alice.refresh_from_db()
    assert (alice.first_name, alice.zone, alice.status) == ("Élise", "Asia/Tokyo", "active")
    assert alice.address == "alice@example.com"
    assert Clock.objects.filter(zone="Asia/Tokyo").exists()


def test_it_finds_ends_and_erases_subscribers(boss: Client, reader: Reader) -> None:
    alice, bob = reader(), reader("bob@example.com")

    found = boss.get(of(alice, "changelist"), {"q": "bob", "status__exact": "active"}).content.decode()
    assert "bob@example.com" in found
    assert "alice@example.com" not in found

    boss.post(of(bob, "changelist"), {"action": "end", "_selected_action": [bob.pk]})
    bob.refresh_from_db()
    assert bob.status == "unsubscribed"

    boss.post(of(alice, "delete", alice.pk), {"post": "yes"})
    body = {"action": "delete_selected", "_selected_action": [bob.pk], "post": "yes"}
    boss.post(of(bob, "changelist"), body)
    assert not Subscriber.objects.exists()
    assert set(Suppression.objects.values_list("reason", flat=True)) == {"erased"}
    boss.get("/admin/")  # reads out the messages of what was just done
    assert "alice@example.com" not in boss.get("/admin/").content.decode()


def test_a_browser_may_log_in(client: Client, db: None) -> None:
    # Under "no-referrer" browsers post "Origin: null", which the CSRF check refuses.
    assert client.get("/admin/login/")["Referrer-Policy"] == "same-origin"
