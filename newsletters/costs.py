"""What a promise costs: how far the imported texts would reach, at each rhythm, and the rhythm to choose."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from newsletters import dates
from newsletters.articles import cutting
from newsletters.models import Article, Issue, Publication

# The promises worth comparing, the most frequent first
RHYTHMS = ("1234567", "12345", "135", "24", "2")
A_YEAR, A_MONTH = timedelta(days=365), timedelta(days=28)
# A promise is recommended where the texts at hand give the author a month to write the next.
HEAD_START = 30
# From so many days on, a reach is told in weeks, and in months.
IN_WEEKS, IN_MONTHS = 21, 180


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is to send: texts, the emails they make with the long ones in parts, and new texts a week."""

    texts: int
    parts: int
    weekly: float


@dataclass(frozen=True, slots=True)
class Reach:
    """How many days a promise can be kept with what is there; None where the blog keeps up with it by itself."""

    weekdays: str
    in_parts: bool
    emails: int
    days: int | None


def stock(publication: Publication, now: datetime) -> Stock:
    """Count what no date has sent yet, and how often the blog has published over the last year."""
    bodies = unsent(publication).values_list("body", flat=True).iterator(100)
    lengths = [cutting.number_of_parts(body) for body in bodies]
    written = Issue.objects.filter(publication=publication, kind=Issue.Kind.DAILY, article=None, days=None).count()
    published = Article.objects.filter(publication=publication, published_at__gt=now - A_YEAR, published_at__lte=now)
    oldest = published.order_by("published_at").values_list("published_at", flat=True).first()
    span = max(now - oldest, A_MONTH) if oldest else A_MONTH
    weekly = published.count() / (span / timedelta(days=7))
    return Stock(len(lengths) + written, sum(lengths) + written, weekly)


def unsent(publication: Publication) -> QuerySet[Article]:
    sent = Issue.objects.filter(publication=publication, article__isnull=False, days__isnull=False)
    return Article.objects.filter(publication=publication).exclude(pk__in=sent.values("article"))


def reaches(stock: Stock) -> Iterator[Reach]:
    """Yield how far each promise would reach, the most frequent first, whole texts before those in parts."""
    for weekdays in RHYTHMS:
        yield reach(stock, weekdays, in_parts=False)
        if stock.parts > stock.texts:
            yield reach(stock, weekdays, in_parts=True)


def reach(stock: Stock, weekdays: str, *, in_parts: bool) -> Reach:
    emails = stock.parts if in_parts else stock.texts
    fresh = stock.weekly * (emails / stock.texts if stock.texts else 1)
    used = len(weekdays) - fresh
    return Reach(weekdays, in_parts, emails, int(emails / used * 7 + 1e-9) if used > 0 else None)


def recommended(stock: Stock) -> Reach | None:
    """Return the most frequent promise that leaves a month to write, else the slowest; None without texts."""
    if not stock.texts:
        return None
    found = list(reaches(stock))
    return next((one for one in found if one.days is None or one.days >= HEAD_START), found[-1])


def span(days: int | None) -> str:
    """Return “10 days”, “5 weeks”, “14 months”, or that there is no end."""
    if days is None:
        return _("without end")
    if days < IN_WEEKS:
        return ngettext("%(number)d day", "%(number)d days", days) % {"number": days}
    if days < IN_MONTHS:
        return ngettext("%(number)d week", "%(number)d weeks", days // 7) % {"number": days // 7}
    return ngettext("%(number)d month", "%(number)d months", days // 30) % {"number": days // 30}


def rhythm(reach: Reach, language: str) -> str:
    """Return “every day”, “on Tuesday and Thursday, the long texts in parts”."""
    days = dates.weekdays(reach.weekdays, language)
    return _("%(days)s, the long texts in parts") % {"days": days} if reach.in_parts else days


def summary(stock: Stock, language: str) -> str:
    """Return “10 texts: 10 days every day; 14 days every day, the long texts in parts; …”, in a language."""
    with override(language):
        texts = ngettext("%(number)d text", "%(number)d texts", stock.texts) % {"number": stock.texts}
        found = [f"{span(one.days)} {rhythm(one, language)}" for one in reaches(stock)]
        return _("%(texts)s: %(reaches)s.") % {"texts": texts, "reaches": "; ".join(found)}


def advice(stock: Stock, language: str) -> str:
    """Return the promise to make, in one sentence and in a language."""
    with override(language):
        best = recommended(stock)
        if best is None:
            return _("Nothing is imported yet. Import your blog, then choose a promise.")
        parts = {"rhythm": rhythm(best, language), "span": span(best.days)}
        if best.days is None:
            return _("Promise an email %(rhythm)s: your blog publishes as often by itself.") % parts
        if best.days < HEAD_START:
            return (
                _("Promise an email %(rhythm)s at most: what is there lasts %(span)s. Write a few texts more first.")
                % parts
            )
        return _("Promise an email %(rhythm)s: what is there lasts %(span)s, time enough to write on.") % parts
