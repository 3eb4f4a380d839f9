"""A blog -> Article rows. One module per form; each yields what it found, left out, or could not read."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

# Characters of one article with its markup. The longest post of a large blog has about 200,000.
MAX_ITEM = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """One article as its source has it. `html` is not yet clean; a naive date means the publication's own zone."""

    title: str
    html: str
    url: str = ""
    language: str = ""
    author: str = ""
    published_at: datetime | None = None
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    excerpt_only: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is no published article: `kind` is draft, page, attachment, private, scheduled or other."""

    kind: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One item that could not be read, and why, as a sentence for the author."""

    item: str
    reason: str

    def __str__(self) -> str:
        return _("%(name)s: %(what)s") % {"name": self.item, "what": self.reason}


Item = Found | LeftOut | Problem
Items = Iterator[Item]


class ReadError(Exception):
    """A source of which nothing can be read; the message tells the author what to do."""
