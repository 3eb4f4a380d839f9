"""Article -> issues: whole, as an excerpt, or in parts for several days.

Which texts an issue holds decides what a reader gets twice, namely nothing. An article has one text of its own
(part 1 of 1) and, once it was cut, one for each part. A part's issue holds its own part alone, so part 2 follows
part 1. An issue with the whole article, or with its excerpt, holds the article's own text and those of all its parts,
whichever was composed first: who had any part never gets the whole, and who had the whole never gets a part. For that
the number of parts stays what it was when the article was first cut.
"""

import secrets
from collections.abc import Iterable

from django.db import transaction
from django.utils import translation
from django.utils.translation import gettext as _

from newsletters import personal
from newsletters.articles import cutting, wording, writing
from newsletters.models import Article, Issue, IssueText, Publication, Series, Text

Cut = Issue.Cut


@transaction.atomic
def compose(article: Article, way: str = Cut.WHOLE) -> list[Issue]:
    """Return the issues of an article: one, or one for each part. The same way twice gives the same issues.

    An issue that is still a draft is written anew from the article, any other stays as it is. An article that is too
    short to cut, or has no address to read on at, becomes one whole issue.
    """
    # Two at once would both find nothing; they wait for each other here.
    article = Article.objects.select_for_update(of=("self",)).select_related("publication").get(pk=article.pk)
    with translation.override(article.publication.language):
        if way == Cut.PARTS:
            return _in_parts(article)
        return [_in_one(article, way)]


def compose_into(series: Series, articles: Iterable[Article], way: str = Cut.WHOLE) -> list[Issue]:
    """Compose those articles that have no issue yet, oldest first, queue their issues and put them into a series."""
    fresh = [article for article in articles if not article.issues.exists()]
    dated = sorted(fresh, key=lambda article: (article.published_at is not None, article.published_at, article.pk))
    issues = [issue for article in dated for issue in compose(article, way)]
    for issue in issues:
        issue.state = Issue.State.QUEUED
        issue.save(update_fields=["state", "updated_at"])
        series.append(issue)
    return issues


def sequence(publication: Publication, slug: str) -> Series:
    """Return a sequence by its short name. A new one becomes the readers' first where there is none yet."""
    welcome = not publication.series.filter(welcome=True).exists()
    defaults = {"name": slug.replace("-", " ").capitalize(), "welcome": welcome}
    return publication.series.get_or_create(slug=slug, defaults=defaults)[0]


def daily_queue(publication: Publication) -> Series:
    with translation.override(publication.language):
        defaults = {"slug": "daily", "name": _("Daily queue")}
    return publication.series.get_or_create(kind=Series.Kind.DAILY, defaults=defaults)[0]


def anew(issue: Issue) -> Issue | None:
    """Return an issue, unsaved, as its article would make it now; None where the article has no such part any more."""
    article = issue.article
    assert article is not None
    fresh = Issue(pk=issue.pk, publication=issue.publication, article=article, cut=issue.cut, public_id=issue.public_id)
    with translation.override(article.publication.language):
        if issue.cut != Cut.PARTS:
            text, read_on, _way = _one(article, issue.cut)
            return _fill(fresh, article, text, wording.subject(article.title), after=read_on)
        own = issue.texts.get()
        pieces = cutting.parts(article.body, own.parts)
        return _fill(fresh, article, *_part(article, pieces, own.part)) if own.part <= len(pieces) else None


def _one(article: Article, way: str) -> tuple[str, str, str]:
    """Return the text of one issue, the link to the rest, and how it was cut in the end."""
    if way == Cut.EXCERPT and article.url and (beginning := cutting.excerpt(article.body)) != article.body:
        read_on = _("Read the rest on the blog")
        return beginning, f"[{read_on}]({_address(article.url)})", way
    return article.body, "", Cut.WHOLE if way == Cut.EXCERPT else way


def _in_one(article: Article, way: str) -> Issue:
    text, read_on, way = _one(article, way)
    issue = article.issues.filter(cut=way).order_by("pk").first() or _new(article, way)
    _write(issue, article, text, wording.subject(article.title), after=read_on)
    _text_of(article, 1, 1)
    _hold(issue, article.texts.all())
    return issue


def _in_parts(article: Article) -> list[Issue]:
    issues = {
        text.part: issue
        for issue in article.issues.filter(cut=Cut.PARTS).prefetch_related("texts")
        for text in issue.texts.all()
    }
    cut_before = article.texts.filter(parts__gt=1).order_by("pk").first()
    number = cut_before.parts if cut_before else cutting.number_of_parts(article.body)
    pieces = cutting.parts(article.body, number)
    if len(pieces) == 1 or (len(pieces) < number and not issues):
        return [_in_one(article, Cut.WHOLE)]
    for part in range(1, len(pieces) + 1):
        issue = issues.get(part) or _new(article, Cut.PARTS)
        _write(issue, article, *_part(article, pieces, part))
        _hold(issue, [_text_of(article, part, number)])
        issues[part] = issue
    for whole in article.issues.exclude(cut=Cut.PARTS).exclude(cut=""):
        _hold(whole, article.texts.all())
    return [issues[part] for part in sorted(issues)]


def _part(article: Article, pieces: list[str], part: int) -> tuple[str, str, str, str]:
    """Return a part's text, its subject, and the words before and after it."""
    parts = len(pieces)
    before = _recall(article, part, parts, pieces[part - 2]) if part > 1 else ""
    after = _outlook(article.publication) if part < parts else ""
    subject = wording.subject(article.title, f"({part}/{parts})" if parts > 1 else "")
    return pieces[part - 1], subject, before, after


def _new(article: Article, way: str) -> Issue:
    return Issue(publication=article.publication, article=article, cut=way, public_id=secrets.token_hex(6))


def _write(issue: Issue, article: Article, text: str, subject: str, before: str = "", after: str = "") -> None:
    if issue.state == Issue.State.DRAFT:
        _fill(issue, article, text, subject, before, after).save()


def _fill(issue: Issue, article: Article, text: str, subject: str, before: str = "", after: str = "") -> Issue:
    """Write an issue from its article. Only what the publication itself wrote may speak to a reader by name."""
    own = article.publication
    article_text = "\n\n".join(filter(None, [before, text, after]))
    pieces = [own.greeting, personal.literal(article_text), own.action, own.sign_off, own.postscript]
    issue.subject = personal.literal(subject)
    issue.preheader = personal.literal(wording.preheader(text, article.title))
    issue.body = "\n\n".join(piece.strip() for piece in pieces if piece.strip())
    issue.canonical_url = article.url
    issue.article_at = article.version
    return issue


def _recall(article: Article, part: int, parts: int, previous: str) -> str:
    words = _("Part %(part)d of %(parts)d of “%(title)s”. Last time ended here: “%(sentence)s”")
    title, sentence = wording.subject(article.title), wording.last_sentence(previous).strip("«»“” \u00a0\u202f")
    return f"*{writing.escaped(words % {'part': part, 'parts': parts, 'title': title, 'sentence': sentence})}*"


def _outlook(publication: Publication) -> str:
    daily = len(publication.weekdays) == 7
    words = _("The next part comes tomorrow.") if daily else _("The next part comes with the next issue.")
    return f"*{words}*"


def _address(url: str) -> str:
    return url.replace("(", "%28").replace(")", "%29")


def _text_of(article: Article, part: int, parts: int) -> Text:
    defaults = {"publication": article.publication}
    return Text.objects.get_or_create(article=article, part=part, parts=parts, defaults=defaults)[0]


def _hold(issue: Issue, texts: Iterable[Text]) -> None:
    for text in texts:
        IssueText.objects.get_or_create(issue=issue, text=text)
