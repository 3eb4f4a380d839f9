import re
import tracemalloc
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from newsletters.articles import clean
from newsletters.models import Article, Entry, Issue, Publication, Series
from tests.blogs import SAMPLES, Blog, blog, feed, item

pytestmark = pytest.mark.django_db
__all__ = ["blog"]


def run(source: object, slug: str = "pas", **options: object) -> str:
    said = StringIO()
    call_command("import_articles", slug, str(source), stdout=said, **options)
    return said.getvalue()


def written(folder: Path, text: str | bytes, name: str = "feed.xml") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def another(slug: str) -> Publication:
    return Publication.objects.create(name=slug, slug=slug, language="fr", author="A", sender="a@b.example")


def test_every_form_gives_the_same_ten_articles(blog: Blog) -> None:
    found = {}
    for form in ("feed", "wordpress", "folder"):
        publication = another(form)
        run(getattr(blog, form), form)
        found[form] = [
            (a.title, a.url.partition(":")[2], a.published_at, a.categories[:1], clean.loose(a.body))
            for a in publication.articles.order_by("published_at")
        ]

    assert len(found["feed"]) == 10
    assert found["feed"] == found["wordpress"] == found["folder"]
    assert all(when and url and category for _title, url, when, category, _body in found["feed"])


def test_bodies_are_clean(publication: Publication, blog: Blog) -> None:
    run(blog.feed)

    bodies = "\n".join(Article.objects.values_list("body", flat=True))
    assert not re.search(r"&\w+;|<(?!https?:)|\[[…]\]|\n{3}|^[\s\u00a0]+$", bodies, re.MULTILINE)
    assert re.search(r"\S  \n\S", bodies)
    assert re.search("[\U0001f300-\U0001faff]", bodies)
    assert "](http" in bodies or "<http" in bodies
    assert all(letter in bodies for letter in "éèàçô’«")
    assert {a.language for a in Article.objects.all()} == {"fr-FR"}
    assert all(a.author for a in Article.objects.all())


def test_form_after_form_is_the_same_blog(publication: Publication, blog: Blog) -> None:
    run(blog.archive, titles=str(blog.titles))
    by_text = list(Article.objects.order_by("pk").values_list("title", "body"))
    assert not Article.objects.exclude(url="").exists()

    said = [run(blog.feed), run(blog.wordpress), run(blog.folder), run(blog.archive, titles=str(blog.titles))]

    assert Article.objects.count() == 10
    assert [title for title, _body in by_text] == list(Article.objects.order_by("pk").values_list("title", flat=True))
    assert not Article.objects.filter(url="").exists()
    assert all("0 new, " in line for line in said)
    assert "0 new, 0 changed, 10 unchanged." in said[3]


def test_atom_is_a_feed_too(publication: Publication) -> None:
    run(SAMPLES / "feed.xml")

    assert run(SAMPLES / "atom.xml") == "0 new, 0 changed, 10 unchanged.\n"


def test_twice_is_once(publication: Publication, blog: Blog) -> None:
    assert run(blog.feed).startswith("10 new, 0 changed, 0 unchanged")
    before = list(Article.objects.order_by("pk").values())

    assert run(blog.feed) == "0 new, 0 changed, 10 unchanged.\n"
    assert list(Article.objects.order_by("pk").values()) == before


def test_what_is_not_published_is_left_out_and_counted(publication: Publication, blog: Blog) -> None:
    said = run(blog.wordpress)

    assert re.search(r"left out: .*1 draft, 1 page, 1 attachment, [12] private posts?", said)
    assert Article.objects.count() == 10
    assert not Article.objects.filter(title__icontains="brouillon").exists()


def test_a_changed_article_is_told_and_taken_over(publication: Publication, tmp_path: Path) -> None:
    run(written(tmp_path, feed(item("Un", "<p>Premier jet.</p>"), item("Deux", "<p>Deux.</p>"))))
    before = Article.objects.get(title="Un")

    said = run(written(tmp_path, feed(item("Un", "<p>Second jet.</p>"), item("Deux", "<p>Deux.</p>"))))

    after = Article.objects.get(title="Un")
    assert said == "“Un” has changed.\n0 new, 1 changed, 1 unchanged.\n"
    assert (after.pk, after.body) == (before.pk, "Second jet.")
    assert after.changed_at > before.changed_at
    assert after.content_hash != before.content_hash


def test_an_address_is_the_same_with_and_without_what_follows_readers(publication: Publication, tmp_path: Path) -> None:
    run(written(tmp_path, feed(item("Un", "<p>Un.</p>", "http://blog.example/un?utm_source=x#part"))))

    run(written(tmp_path, feed(item("Un", "<p>Un, repris.</p>", "https://BLOG.example/un/"))))

    assert Article.objects.get().body == "Un, repris."


def test_a_dump_without_titles_is_one_article_and_says_so(publication: Publication, blog: Blog) -> None:
    said = run(blog.archive)

    assert "one article" in said
    assert Article.objects.get().title == blog.titles.read_text().split("\n")[0]


def test_a_marker_cuts_a_dump(publication: Publication, tmp_path: Path) -> None:
    dump = "Un\n\nPremier.\nDeuxième ligne.\n* * *\nDeux\n\n1. pas une liste\n\n# pas un titre\n* * *\n"

    run(written(tmp_path, dump, "dump.txt"), marker="* * *")

    assert list(Article.objects.order_by("pk").values_list("title", "body")) == [
        ("Un", "Premier.  \nDeuxième ligne."),
        ("Deux", "1\\. pas une liste\n\n\\# pas un titre"),
    ]


def test_an_edited_dump_changes_its_article(publication: Publication, tmp_path: Path) -> None:
    run(written(tmp_path, "Un\n\nPremier.", "dump.txt"), marker="---")

    run(written(tmp_path, "Un\n\nRepris.", "dump.txt"), marker="---")

    assert Article.objects.get().body == "Repris."


def test_a_title_that_is_not_there_is_told(publication: Publication, tmp_path: Path) -> None:
    titles = written(tmp_path, "Un\nJamais\nDeux\n", "titles.txt")

    said = run(written(tmp_path, "Un\n\nPremier.\n\nDeux\n\nSecond.", "dump.txt"), titles=str(titles))

    assert "“Jamais”: no line" in said
    assert Article.objects.count() == 2


def test_what_a_blog_adds_goes_and_what_it_shows_becomes_a_link(publication: Publication) -> None:
    publication.language = "en"
    publication.save()
    run(SAMPLES / "plugins.xml")

    article = Article.objects.get()
    assert article.body == (SAMPLES / "plugins.md").read_text().rstrip("\n")
    assert (article.categories, article.tags) == (["Atelier"], ["vidéo"])


def test_markdown_keeps_its_meaning(publication: Publication, tmp_path: Path) -> None:
    body = "## Titre\n\n- *un*\n- **deux**\n\n1. x\n2. y\n\n> cité\n\n`code`"
    text = f"---\ntitle: Un\ndate: 2024-01-31\ntags: [a, b]\n---\n{body}\n"
    run(written(tmp_path, text, "un.md"))
    written(tmp_path, "---\ntitle: Non\ndraft: true\n---\nNon.", "deux.md")
    written(tmp_path, "---\ntitle: &a [x]\nb: *a\n---\nNon.", "trois.md")
    written(tmp_path, "---\ntitle: [x\n---\nNon.", "quatre.md")

    said = run(tmp_path)

    article = Article.objects.get()
    assert article.body == body
    assert article.published_at is not None
    assert article.published_at.isoformat() == "2024-01-30T23:00:00+00:00"
    assert article.tags == ["a", "b"]
    assert "trois.md: its front matter uses aliases" in said
    assert "quatre.md: its front matter is broken" in said
    assert "0 new, 0 changed, 1 unchanged; left out: 1 draft, 2 items that cannot be used." in said


BOMB = '<!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
XXE = '<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("head", [BOMB, XXE], ids=["bomb", "xxe"])
def test_no_entity_is_ever_resolved(publication: Publication, tmp_path: Path, head: str) -> None:
    text = "<description>&c;&x; caf&eacute; &amp; th&#233;</description>"
    outside = f"<item><title>Un &c; &x;</title><link>https://b.example/1</link>{text}</item>"

    run(written(tmp_path, feed(outside, item("Deux", "<p>Deux.</p>"), head='<?xml version="1.0"?>' + head)))

    assert Article.objects.count() == 2
    first = Article.objects.get(url="https://b.example/1")
    assert first.title == "Un &c; &x;"
    assert first.body.endswith("café & thé")
    assert "root:" not in first.body
    assert "haha" not in first.body


def test_broken_items_are_told_one_by_one_and_the_rest_is_read(publication: Publication, tmp_path: Path) -> None:
    deep = "<item><title>Profond</title>" + "<x>" * 3000 + "</x>" * 3000 + "</item>"
    text = feed(
        item("Un", "<p>Un.</p>"),
        "<item><title>Cassé</title><description><b></description></item>",
        deep,
        item("Noeuds", "<div>" * 5000 + "x"),
        item("Vide", "<p>&nbsp;</p>"),
        "<item><title>Sans fin</title>",
        item("Deux", "<p>Deux\x00\x08\x0b \x1b[31mrouge.</p>"),
        "<item><title>Coupé</title><description>au mil",
    ).split("</channel>")[0]

    said = run(written(tmp_path, text))

    assert list(Article.objects.order_by("pk").values_list("title", "body")) == [
        ("Un", "Un."),
        ("Deux", "Deux [31mrouge."),
    ]
    for line in (
        "item 2, “Cassé”: its XML is broken",
        "item 3, “Profond”: its XML is broken",
        "“Noeuds”: its HTML is too tangled",
        "“Vide”: it holds no text",
        "item 6, “Sans fin”: it breaks off",
        "item 8, “Coupé”: it breaks off",
        "left out: 1 item without text, 5 items that cannot be used.",
    ):
        assert line in said


def test_an_item_of_fifty_megabytes_is_passed_over_in_little_memory(publication: Publication, tmp_path: Path) -> None:
    file = tmp_path / "big.xml"
    before, after = feed(item("Un", "<p>Un.</p>"), "@", item("Deux", "<p>Deux.</p>")).split("@")
    with file.open("w") as big:
        big.write(before + "<item><title>Trop</title><content:encoded><![CDATA[")
        for _megabyte in range(50):
            big.write("<p>trop </item> long</p>" * 43_690)
        big.write("]]></content:encoded></item>" + after)

    tracemalloc.start()
    said = run(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert "item 2, “Trop”: it is longer than a million characters" in said
    assert set(Article.objects.values_list("title", flat=True)) == {"Un", "Deux"}
    assert peak < 40_000_000


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<?xml version="1.0" encoding="UTF-8"?>', "cp1252"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', "utf-8"),
        ('<?xml version="1.0" encoding="ISO-8859-15"?>', "iso-8859-15"),
        ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16"),
        ('<?xml version="1.0" encoding="nonsense"?>', "utf-8"),
        ("\ufeff", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_it_reads_any_encoding_even_a_wrong_one(
    publication: Publication, tmp_path: Path, head: str, encoding: str
) -> None:
    text = feed(item("Été", "<p>Ça, c’était déjà l’été à 5 €.</p>".replace("’", "'")), head=head)

    run(written(tmp_path, text.encode(encoding)))

    assert Article.objects.get().body == "Ça, c'était déjà l'été à 5 €."


def test_a_feed_of_beginnings_is_told(publication: Publication, tmp_path: Path) -> None:
    text = "<description>Il était une fois [&amp;#8230;]</description>"
    excerpt = f"<item><title>Un</title><link>https://b.example/1</link>{text}</item>"

    assert "“Un”: the feed gives only its beginning" in run(written(tmp_path, feed(excerpt)))


def test_a_source_without_articles_says_so(publication: Publication, tmp_path: Path) -> None:
    assert run(written(tmp_path, feed())) == "No article was found there.\n0 new, 0 changed, 0 unchanged.\n"


def test_one_command_fills_a_sequence(publication: Publication, blog: Blog) -> None:
    said = run(blog.feed, series="accueil")

    series = Series.objects.get(publication=publication, slug="accueil")
    dates = [
        entry.issue.article.published_at
        for entry in series.entries.select_related("issue__article")
        if entry.issue.article
    ]
    assert "10 issues queued in “Accueil”." in said
    assert (series.kind, series.welcome) == (Series.Kind.SEQUENCE, True)
    assert len(dates) == 10
    assert dates == sorted(dates, key=str)
    assert set(Issue.objects.values_list("state", flat=True)) == {Issue.State.QUEUED}

    assert "0 issues queued" in run(blog.feed, series="accueil")
    assert Entry.objects.count() == 10


def test_articles_imported_before_can_still_fill_a_queue(publication: Publication, blog: Blog) -> None:
    run(blog.feed)

    assert "10 issues queued" in run(blog.feed, queue=True)
    assert Series.objects.get().kind == Series.Kind.DAILY


def test_parts_stand_one_after_the_other(publication: Publication, blog: Blog) -> None:
    run(blog.long, series="accueil", way="parts")

    subjects = [entry.issue.subject[-5:] for entry in Entry.objects.order_by("rank")]
    assert subjects == ["(1/3)", "(2/3)", "(3/3)"]


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("nowhere.xml", {}, "There is no file or folder"),
        ("photo.png", {}, "Say it with --format"),
        (".", {"format": "feed"}, "Only Markdown files are read from a folder"),
        ("photo.png", {"titles": "none.txt"}, "The titles in"),
        ("http://127.0.0.1/feed", {}, "private network"),
        ("ftp://blog.example/feed", {}, "There is no file or folder"),
    ],
)
def test_it_says_what_to_do(
    publication: Publication, tmp_path: Path, source: str, options: dict[str, str], sentence: str
) -> None:
    written(tmp_path, b"\x89PNG", "photo.png")
    place = source if "://" in source else tmp_path / source
    with pytest.raises(CommandError, match=sentence):
        run(place, **options)
    with pytest.raises(CommandError, match="There is no publication"):
        run(place, "nobody", **options)
