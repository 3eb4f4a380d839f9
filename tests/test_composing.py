from datetime import UTC, datetime

import pytest
from django.core.management import call_command

from newsletters import composing
from newsletters.articles import clean, wording
from newsletters.models import Article, Issue, Publication
from tests.blogs import Blog, blog

pytestmark = pytest.mark.django_db
__all__ = ["blog"]

ADDRESS = "https://blog.example/un/"


def article(publication: Publication, body: str, title: str = "Un", url: str = ADDRESS) -> Article:
    return Article.objects.create(
        publication=publication,
        title=title,
        url=url,
        body=body,
        content_hash=clean.fingerprint(body),
        published_at=datetime(2024, 5, 14, tzinfo=UTC),
    )


@pytest.fixture
def author(publication: Publication) -> Publication:
    publication.language = "en"
    publication.greeting = "Hello {{ first_name|there }},"
    publication.action = "[Choose an hour](https://lepasdujour.example/hour/)"
    publication.sign_off = "Until tomorrow, 7:00.\nMaud"
    publication.postscript = "P.S. Just reply."
    publication.save()
    return publication


@pytest.fixture
def long(author: Publication, blog: Blog) -> Article:
    call_command("import_articles", "pas", str(blog.long))
    return Article.objects.get()


def held(issue: Issue) -> set[tuple[int, int]]:
    return set(issue.texts.values_list("part", "parts"))


def test_a_whole_article_stands_between_greeting_and_postscript(author: Publication) -> None:
    (issue,) = composing.compose(article(author, "First sentence of this article, long enough.\n\nSecond."))

    assert issue.body.split("\n\n") == [
        "Hello {{ first_name|there }},",
        "First sentence of this article, long enough.",
        "Second.",
        "[Choose an hour](https://lepasdujour.example/hour/)",
        "Until tomorrow, 7:00.\nMaud",
        "P.S. Just reply.",
    ]
    assert (issue.subject, issue.preheader) == ("Un", "First sentence of this article, long enough.")
    assert (issue.state, issue.canonical_url) == (Issue.State.DRAFT, ADDRESS)
    assert len(issue.public_id) == 12
    issue.full_clean()


def test_braces_of_the_blog_mean_nothing(author: Publication) -> None:
    (issue,) = composing.compose(article(author, "Write {{ first_name }} or {{ secret }}.", "{{ subject }}"))

    issue.full_clean()
    assert issue.body.count("{{") == 1
    assert "{{" not in issue.subject + issue.preheader


def test_an_excerpt_leads_to_the_rest(author: Publication, long: Article) -> None:
    (issue,) = composing.compose(long, "excerpt")

    text = issue.body.split("\n\n")
    assert f"[Read the rest on the blog]({long.url})" in text
    assert 500 < len("".join(text[1 : text.index(f"[Read the rest on the blog]({long.url})")])) < 1000
    assert not text[text.index(f"[Read the rest on the blog]({long.url})") - 1].endswith(":")


def test_without_an_address_or_a_rest_an_excerpt_is_the_whole(author: Publication) -> None:
    short = article(author, "One.\n\nTwo.")
    nowhere = article(author, "A paragraph of some words.\n\n" * 60, url="")

    for one in (short, nowhere):
        (issue,) = composing.compose(one, "excerpt")
        assert issue.cut == Issue.Cut.WHOLE
        assert composing.compose(one) == [issue]


def test_parts_are_of_like_length_and_read_well(author: Publication, long: Article) -> None:
    issues = composing.compose(long, "parts")

    title = wording.subject(long.title)
    assert [issue.subject for issue in issues] == [f"{title} (1/3)", f"{title} (2/3)", f"{title} (3/3)"]
    lengths = [len(issue.body) for issue in issues]
    assert max(lengths) < 1.5 * min(lengths)
    assert ["The next part comes tomorrow." in issue.body for issue in issues] == [True, True, False]
    assert ["Last time ended here" in issue.body for issue in issues] == [False, True, True]
    own = "\n\n".join(issue.body for issue in issues)
    assert all(paragraph in own for paragraph in long.body.split("\n\n") if paragraph != "---")
    for issue in issues:
        issue.full_clean()
        first, *_rest = (block for block in issue.body.split("\n\n")[1:] if not block.startswith("*Part"))
        assert not first[0].islower()
        assert issue.preheader
        assert len(issue.preheader) <= 90


def test_parts_begin_at_headings_where_there_are_any(author: Publication) -> None:
    body = "\n\n".join(f"## Heading {n}\n\n" + "A sentence of a certain length, for the day. " * 16 for n in range(9))

    issues = composing.compose(article(author, body), "parts")

    assert len(issues) == 3
    assert all(issue.body.split("\n\n")[1 if n == 0 else 2].startswith("## ") for n, issue in enumerate(issues))


def test_parts_begin_at_lines_that_stand_for_headings(author: Publication, blog: Blog) -> None:
    file = next(blog.folder.glob("2019-04-03-*"), blog.long)
    call_command("import_articles", "pas", str(file))

    issues = composing.compose(Article.objects.get(), "parts")

    begins = [issue.body.split("\n\n")[2] for issue in issues[1:]]
    assert len(issues) == 3
    assert all(len(begin) < 60 and begin[-1].isalpha() for begin in begins)


def test_twice_is_once_and_only_drafts_are_written_anew(author: Publication) -> None:
    one = article(author, "Before.")
    (issue,) = composing.compose(one)
    Article.objects.update(body="After.")

    assert composing.compose(one) == [issue]
    issue.refresh_from_db()
    assert "After." in issue.body

    Issue.objects.update(state=Issue.State.QUEUED)
    Article.objects.update(body="Much later.")
    assert composing.compose(one) == [issue]
    issue.refresh_from_db()
    assert "After." in issue.body
    assert Issue.objects.count() == 1


def test_parts_composed_twice_are_the_same_issues(author: Publication, long: Article) -> None:
    first = composing.compose(long, "parts")
    Article.objects.update(body=long.body + "\n\n" + long.body)

    second = composing.compose(long, "parts")

    assert [issue.pk for issue in second] == [issue.pk for issue in first]
    assert Issue.objects.count() == 3


@pytest.mark.parametrize(
    "order", [["whole", "excerpt", "parts"], ["parts", "whole", "excerpt"], ["excerpt", "parts", "whole"]]
)
def test_who_had_a_part_has_no_whole_to_come_and_the_other_way_round(
    author: Publication, long: Article, order: list[str]
) -> None:
    for way in [*order, *order]:
        composing.compose(long, way)

    parts = [held(issue) for issue in Issue.objects.filter(cut="parts").order_by("pk")]
    assert parts == [{(1, 3)}, {(2, 3)}, {(3, 3)}]
    for issue in Issue.objects.exclude(cut="parts"):
        assert held(issue) == {(1, 1), (1, 3), (2, 3), (3, 3)}


def test_an_article_that_is_short_has_one_part_the_whole(author: Publication) -> None:
    one = article(author, "Short.\n\nAnd sweet.")

    assert composing.compose(one, "parts") == composing.compose(one, "whole")


def test_an_outlook_does_not_promise_a_day_that_is_none(author: Publication, long: Article) -> None:
    Publication.objects.update(weekdays="135")

    assert "The next part comes with the next issue." in composing.compose(long, "parts")[0].body


@pytest.mark.parametrize(
    ("title", "subject"),
    [
        ("[Vous n’avez pas à être génial pour démarrer…]", "Vous n’avez pas à être génial pour démarrer…"),
        (
            "[Paroles d’Experts #3] – Pierre David, hypnothérapeute",
            "Paroles d’Experts #3 – Pierre David, hypnothérapeute",
        ),
        ("Interview #6 – Benjamin Planche, consultant", "Interview #6 – Benjamin Planche, consultant"),
        ("4 éléments clés pour réussir", "4 éléments clés pour réussir"),
        ("2019 : une année", "2019 : une année"),
        ("[Podcast] Oser", "Podcast – Oser"),
        ("#12 – Le devis", "Le devis"),
        ("3. Le devis", "Le devis"),
        ("N°4 : Le devis", "Le devis"),
        ("Le devis [vidéo]", "Le devis (vidéo)"),
        ("x" * 78, "x" * 78),
        ("mot " * 19 + "mo", "mot " * 19 + "mo"),
    ],
)
def test_a_subject_is_the_title_as_a_person_would_write_it(title: str, subject: str) -> None:
    assert wording.subject(title) == subject


def test_a_long_subject_is_cut_at_a_word() -> None:
    title = "Un titre qui n’en finit pas de finir et dont on se demande bien où la coupure tombera enfin"

    assert wording.subject(title) == "Un titre qui n’en finit pas de finir et dont on se demande bien où la coupure…"
    assert wording.subject(title, "(2/3)").endswith("… (2/3)")
    assert len(wording.subject(title, "(2/3)")) <= 78


@pytest.mark.parametrize(
    ("body", "preheader"),
    [
        (
            "(indice : ce ne sont pas des hacks)\n\nJe ne fais pas partie des sages du web.",
            "Je ne fais pas partie des sages du web.",
        ),
        ("Bonjour à tous,\n\nLe lundi, j’ouvre ma messagerie.", "Le lundi, j’ouvre ma messagerie."),
        ("Un.\n\n## Titre\n\nLes deux éléments les plus importants ?", "Les deux éléments les plus importants ?"),
        ("Pourquoi ? Parce que c’est ainsi, et pas autrement.", "Pourquoi ? Parce que c’est ainsi, et pas autrement."),
        (
            "![image](https://b.example/i.png)\n\n<https://b.example/>\n\n**Voici** [un lien](https://b.example/).",
            "Voici un lien.",
        ),
        ("encore " * 40, "encore " * 11 + "encore…"),
        ("", ""),
    ],
)
def test_a_preheader_is_the_first_real_sentence(body: str, preheader: str) -> None:
    assert wording.preheader(body, "Un") == preheader
