"""An issue whose article has changed, or vanished from its source: the author takes the new text or keeps the old."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from newsletters import composing, drift, planning
from newsletters.articles.importing import import_articles
from newsletters.models import Article, Delivery, Issue, Publication, Series
from newsletters.models.outgoing import State
from tests.conftest import Reader

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
LONG = "\n\n".join(
    f"Paragraph {number} of a long text. " + "It goes on and on with many words. " * 30 for number in range(12)
)


@pytest.fixture
def blog(tmp_path: Path) -> Path:
    folder = tmp_path / "blog"
    folder.mkdir()
    write(folder, "carnet", "Trois lignes, chaque soir.\n\nEt rien de plus.")
    write(folder, "facturer", "Le courage de facturer.\n\nIl vient en facturant.")
    return folder


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.md").write_text(f"---\ntitle: {name.capitalize()}\n---\n{text}\n")


def queued(publication: Publication, blog: Path, way: str = "whole") -> dict[str, Issue]:
    import_articles(publication, str(blog), "markdown")
    composing.compose_into(composing.daily_queue(publication), publication.articles.order_by("title"), way)
    return {issue.article.title: issue for issue in publication.issues.select_related("article") if issue.article}


def test_an_issue_as_its_article_has_no_drift(publication: Publication, blog: Path) -> None:
    issues = queued(publication, blog)
    import_articles(publication, str(blog), "markdown")

    assert not drift.flagged(publication)
    assert drift.of(issues["Carnet"]) is None


def test_a_changed_article_is_flagged_with_what_differs(publication: Publication, blog: Path) -> None:
    queued(publication, blog)
    write(blog, "carnet", "Trois lignes, chaque matin.\n\nEt rien de plus.\n\n<script>alert(1)</script> Fin.")
    import_articles(publication, str(blog), "markdown")

    (issue,) = drift.flagged(publication)
    found = drift.of(issue)

    assert found is not None
    assert not found.vanished
    assert [line.same for line in found.lines] == [False, True, False]
    assert found.lines[0].old[0] == ("Trois lignes, chaque ", False)
    assert [text for text, differs in found.lines[0].new if differs] == ["matin."]
    assert found.lines[2].old == []


def test_the_new_text_keeps_the_texts_so_that_nobody_gets_it_twice(
    publication: Publication, blog: Path, reader: Reader
) -> None:
    issue = queued(publication, blog)["Carnet"]
    alice = reader(now=MONDAY - timedelta(days=1))
    planning.tick(MONDAY)
    Delivery.objects.update(state=State.SENT)
    composing.sequence(publication, "suite").append(issue)
    texts = set(issue.texts.all())
    write(blog, "carnet", "Trois lignes, chaque matin.")
    import_articles(publication, str(blog), "markdown")

    drift.take_new(drift.flagged(publication).get())
    planning.tick(MONDAY + timedelta(days=1))

    issue.refresh_from_db()
    assert "matin" in issue.body
    assert issue.state == Issue.State.QUEUED
    assert set(issue.texts.all()) == texts
    assert not drift.flagged(publication)
    had = Delivery.objects.filter(subscriber=alice).order_by("local_date").values_list("issue__subject", flat=True)
    assert list(had) == ["Carnet", "Facturer"]


def test_the_old_text_is_kept_until_the_next_change(publication: Publication, blog: Path) -> None:
    issue = queued(publication, blog)["Carnet"]
    write(blog, "carnet", "Trois lignes, chaque matin.")
    import_articles(publication, str(blog), "markdown")

    drift.keep_old(issue)

    assert not drift.flagged(publication)
    issue.refresh_from_db()
    assert "soir" in issue.body
    write(blog, "carnet", "Trois lignes, à midi.")
    import_articles(publication, str(blog), "markdown")
    assert list(drift.flagged(publication)) == [issue]


def test_a_vanished_article_is_flagged_and_taking_it_makes_a_draft(publication: Publication, blog: Path) -> None:
    issue = queued(publication, blog)["Carnet"]
    (blog / "carnet.md").unlink()
    import_articles(publication, str(blog), "markdown")

    found = drift.of(drift.flagged(publication).get())
    assert found is not None
    assert found.vanished
    drift.take_new(issue)

    issue.refresh_from_db()
    assert issue.state == Issue.State.DRAFT
    assert not drift.flagged(publication)


def test_an_article_that_is_back_has_not_vanished(publication: Publication, blog: Path) -> None:
    queued(publication, blog)
    (blog / "carnet.md").rename(blog / "carnet.away")
    import_articles(publication, str(blog), "markdown")
    (blog / "carnet.away").rename(blog / "carnet.md")

    import_articles(publication, str(blog), "markdown")

    assert not drift.flagged(publication)
    assert not Article.objects.exclude(vanished_at=None)


def test_what_a_feed_no_longer_lists_has_only_grown_old(publication: Publication, tmp_path: Path) -> None:
    feed = tmp_path / "feed.xml"
    days = (1, 2, 3)

    def publish(*shown: int) -> None:
        items = "".join(
            f"<item><title>Texte {day}</title><link>https://blog.example/{day}</link>"
            f"<pubDate>0{day} Nov 2026 07:00:00 +0000</pubDate>"
            f"<description>Un texte assez long, le {day}.</description></item>"
            for day in shown
        )
        feed.write_text(f'<rss version="2.0"><channel><title>Blog</title>{items}</channel></rss>')
        import_articles(publication, str(feed), "feed")

    publish(*days)
    publish(2)

    gone = Article.objects.exclude(vanished_at=None).values_list("title", flat=True)
    assert list(gone) == ["Texte 3"]


def test_the_parts_of_an_article_are_written_anew_together(publication: Publication, blog: Path) -> None:
    write(blog, "carnet", LONG)
    queued(publication, blog, "parts")
    parts = list(Issue.objects.filter(cut="parts").order_by("pk"))
    before = [set(part.texts.all()) for part in parts]
    write(blog, "carnet", LONG.replace("on and on", "further and further"))
    import_articles(publication, str(blog), "markdown")

    assert len(drift.flagged(publication)) == len(parts) > 1
    drift.take_new(parts[0])

    assert not drift.flagged(publication)
    for part, texts in zip(parts, before, strict=True):
        part.refresh_from_db()
        assert "on and on" not in part.body
        assert set(part.texts.all()) == texts


@pytest.mark.parametrize("left", [1, 2])
def test_parts_of_an_article_that_shrank_promise_no_others(publication: Publication, blog: Path, left: int) -> None:
    write(blog, "carnet", LONG)
    queued(publication, blog, "parts")
    parts = list(Issue.objects.filter(cut="parts").order_by("pk"))
    write(blog, "carnet", "\n\n".join(LONG.split("\n\n")[:left]))
    import_articles(publication, str(blog), "markdown")

    drift.take_new(parts[0])

    assert len(parts) > left
    subjects = ["Carnet"] if left == 1 else ["Carnet (1/2)", "Carnet (2/2)"]
    assert list(Issue.objects.filter(cut="parts", state="queued").order_by("pk").values_list("subject", flat=True)) == (
        subjects
    )
    last = Issue.objects.get(subject=subjects[-1])
    assert "La suite arrive demain" not in last.body
    assert {part.state for part in Issue.objects.filter(cut="parts").exclude(subject__in=subjects)} == {"draft"}


def test_what_vanished_leaves_the_reserve(publication: Publication, blog: Path) -> None:
    issue = queued(publication, blog)["Carnet"]
    reserve = Series.objects.create(publication=publication, kind="reserve", name="Réserve", slug="reserve")
    reserve.append(issue)
    (blog / "carnet.md").unlink()
    import_articles(publication, str(blog), "markdown")

    drift.take_new(issue)

    issue.refresh_from_db()
    issue.full_clean()
    reserve.full_clean()
    assert [entry.series.kind for entry in issue.entries.all()] == ["daily"]


def test_an_issue_written_by_hand_has_no_drift(publication: Publication, blog: Path) -> None:
    import_articles(publication, str(blog), "markdown")
    article = publication.articles.first()
    by_hand = Issue.objects.create(
        publication=publication, article=article, subject="À la main", body="Texte", state="queued", public_id="main"
    )
    Article.objects.update(changed_at=datetime(2027, 1, 1, tzinfo=UTC))

    assert not drift.flagged(publication)
    assert drift.of(by_hand) is None


def test_what_has_gone_out_on_its_date_is_let_be(publication: Publication, blog: Path, reader: Reader) -> None:
    queued(publication, blog)
    reader(now=MONDAY - timedelta(days=1))
    planning.tick(MONDAY)
    write(blog, "carnet", "Autre chose.")

    import_articles(publication, str(blog), "markdown")

    assert not drift.flagged(publication)
