"""What a source holds -> Article rows: new, changed, or as they were."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from django.db import transaction
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from newsletters.articles import Found, LeftOut, Problem, clean
from newsletters.articles.fetch import Guard
from newsletters.articles.sources import Opened, open_source
from newsletters.models import Article, Publication, Source

# In characters: a book of a hundred pages. Markdown made to hurt takes a parser the square of its length.
LONGEST = 200_000
TRACKING = re.compile(r"utm_\w+|fbclid|gclid|mc_[ce]id")


@dataclass(slots=True)
class Report:
    """What an import did. `articles` are all articles of the source in its order, `notes` the sentences to show."""

    new: list[Article] = field(default_factory=list)
    changed: list[Article] = field(default_factory=list)
    unchanged: list[Article] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def articles(self) -> list[Article]:
        return self.new + self.changed + self.unchanged


def import_articles(
    publication: Publication,
    source: str,
    form: str = "",
    titles: Sequence[str] = (),
    marker: str = "",
    guard: Guard | None = None,
    say: Callable[[str], object] = lambda note: None,
) -> Report:
    """Read a source into a publication; every problem is told at once through `say`. Raises ReadError.

    An article is known again by its canonical address, else by its text, else by source and title. Twice is once.
    """
    opened = open_source(source, form, titles, marker, guard)
    report, now = Report(), timezone.now()
    origin, _made = Source.objects.update_or_create(
        publication=publication, location=opened.location[:1000], defaults={"format": opened.format, "imported_at": now}
    )
    for note in _read(publication, origin, opened, report):
        report.notes.append(note)
        say(note)
    _note_vanished(origin, opened, report, now)
    if note := _closing_note(opened, bool(titles or marker), report):
        report.notes.append(note)
        say(note)
    return report


def _closing_note(opened: Opened, cut: bool, report: Report) -> str:
    if opened.format == "text" and report.articles and not cut:
        return _("The whole text became one article. To cut it, name its titles with --titles or a line with --marker.")
    if not report.articles and not report.left_out:
        return _("No article was found there.")
    return ""


def _read(publication: Publication, origin: Source, opened: Opened, report: Report) -> Iterator[str]:
    for item in opened.items:
        if isinstance(item, LeftOut):
            report.left_out[item.kind] += 1
        elif isinstance(item, Problem):
            report.left_out["problem"] += 1
            yield str(item)
        else:
            yield from _keep(publication, origin, opened, item, report)


def _note_vanished(origin: Source, opened: Opened, report: Report, now: dt.datetime) -> None:
    """Note which articles their source no longer holds; one that is back has not vanished.

    A feed holds only its latest: what is older than its oldest is not missed. Nor is anything where an item could not
    be read.
    """
    Article.objects.filter(pk__in=[article.pk for article in report.articles if article.vanished_at]).update(
        vanished_at=None
    )
    if not report.articles or report.left_out["problem"]:
        return
    seen = {article.pk for article in report.articles}
    known = origin.articles.filter(vanished_at=None)
    if opened.format == "feed":
        dated = [article.published_at for article in report.articles if article.published_at]
        known = known.filter(published_at__gt=min(dated)) if dated else known.none()
    for pk in known.values_list("pk", flat=True):
        if pk not in seen:
            Article.objects.filter(pk=pk).update(vanished_at=now)


def _keep(publication: Publication, origin: Source, opened: Opened, found: Found, report: Report) -> Iterator[str]:
    name = _("“%(text)s”") % {"text": found.title[:80]} if found.title else found.url or _("an item without title")
    try:
        with translation.override(publication.language):
            body = clean.to_markdown(found.html, found.url or opened.base)
        if len(body) > LONGEST:
            raise clean.TangledError
    except (clean.TangledError, RecursionError):
        report.left_out["problem"] += 1
        yield str(Problem(name, _("its HTML is too tangled to be read; it was left out.")))
        return
    if not body:
        report.left_out["empty"] += 1
        yield str(Problem(name, _("it holds no text and was left out.")))
        return
    if found.excerpt_only:
        yield str(
            Problem(
                name, _("the feed gives only its beginning. Let the blog's feed show full texts, or import an export.")
            )
        )
    article, outcome = _save(publication, origin, found, body)
    getattr(report, outcome).append(article)


@transaction.atomic
def _save(publication: Publication, origin: Source, found: Found, body: str) -> tuple[Article, str]:
    # Two imports at once would both find nothing; they wait for each other here.
    Publication.objects.select_for_update().get(pk=publication.pk)
    article = _fresh(publication, origin, found, body)
    known = _known(article)
    if known is None:
        article.save()
        return article, "new"
    same_text = known.title == article.title and clean.loose(known.body) == clean.loose(article.body)
    # A form without addresses keeps no links either: the richer text stays.
    if same_text or (not article.url and known.content_hash == article.content_hash):
        _fill(known, article)
        return known, "unchanged"
    if known.url and known.url not in spellings(article.url):
        return known, "unchanged"  # the same words under a second address
    for name in ("title", "body", "content_hash", "categories", "tags", "author", "published_at"):
        setattr(known, name, getattr(article, name) or getattr(known, name))
    known.changed_at = timezone.now()
    known.save()
    return known, "changed"


def _fresh(publication: Publication, origin: Source, found: Found, body: str) -> Article:
    published_at = found.published_at
    if published_at and published_at.tzinfo is None:
        published_at = published_at.replace(tzinfo=ZoneInfo(publication.zone))
    title = " ".join(found.title.split()) or _first_words(body)
    return Article(
        publication=publication,
        source=origin,
        title=_printable(title)[:300],
        url=canonical(found.url),
        language=(found.language or publication.language)[:35],
        author=_printable(found.author)[:200],
        published_at=published_at.astimezone(dt.UTC) if published_at else None,
        body=body,
        content_hash=clean.fingerprint(body),
        categories=[_printable(word)[:200] for word in found.categories][:50],
        tags=[_printable(word)[:200] for word in found.tags][:100],
    )


def _known(article: Article) -> Article | None:
    own = Article.objects.filter(publication=article.publication)
    if article.url and (known := own.filter(url__in=spellings(article.url)).first()):
        return known
    if known := own.filter(content_hash=article.content_hash).order_by("pk").first():
        return known
    if not article.url:
        return own.filter(source=article.source, title=article.title, url="").first()
    return None


def _fill(known: Article, article: Article) -> None:
    """Add what another form of the same blog did not say."""
    names = ("url", "author", "published_at", "categories", "tags")
    missing = [name for name in names if not getattr(known, name) and getattr(article, name)]
    for name in missing:
        setattr(known, name, getattr(article, name))
    if missing:
        known.save(update_fields=missing)


def canonical(url: str) -> str:
    """Return an article's address without what only follows readers around; "" for one that is no web address."""
    try:
        parts = urlsplit(url.strip())
        port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
    except ValueError:
        return ""
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or len(url) > 1000
        or re.search(r"[\s<>\"]", url.strip())
    ):
        return ""
    query = urlencode(
        [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not TRACKING.fullmatch(pair[0])]
    )
    return urlunsplit((parts.scheme, parts.hostname + port, parts.path or "/", query, ""))


def spellings(url: str) -> set[str]:
    """Return the addresses that mean the same page: with http or https, with a slash at the end or without."""
    rest = url.partition("://")[2]
    bare = rest.rstrip("/")
    return {f"{scheme}://{end}" for scheme in ("http", "https") for end in (bare, bare + "/")} if url else set()


def _first_words(body: str) -> str:
    return re.sub(r"[\\*_#>`\[\]]", "", body.split("\n")[0])[:60].strip()


def _printable(text: str) -> str:
    return "".join(
        character for character in text if character.isprintable() or character in "\u00a0\u202f\u200d"
    ).strip()
