"""Blogs to import: the project's own in every form, the real one where it is at hand, and broken ones."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"
DEMO = Path(__file__).parent.parent / "newsletters" / "samples"


@dataclass(frozen=True)
class Blog:
    """Ten articles in four forms, and one article of about 7,000 characters."""

    feed: Path
    wordpress: Path
    folder: Path
    archive: Path
    titles: Path
    long: Path


@pytest.fixture(params=["own", "real"])
def blog(request: pytest.FixtureRequest, corpora: Path | None, tmp_path: Path) -> Blog:
    if request.param == "real" and corpora:
        home = corpora / "blog"
        folder, titles = home / "articles", tmp_path / "titles.txt"
        heads = sorted(folder.glob("*.md"), reverse=True)
        titles.write_text("".join(head.read_text().split('"')[1] + "\n" for head in heads))
        long = next(folder.glob("2019-04-22-*"))
        return Blog(home / "feed.xml", home / "wordpress.xml", folder, home / "archive.txt", titles, long)
    folder = tmp_path / "articles"
    folder.mkdir()
    for file in sorted(DEMO.glob("*.md"))[:10]:
        shutil.copy(file, folder)
    own = {name: SAMPLES / f"{name}.xml" for name in ("feed", "wordpress")}
    return Blog(
        **own, folder=folder, archive=SAMPLES / "archive.txt", titles=SAMPLES / "titles.txt", long=SAMPLES / "long.md"
    )


def item(title: str, html: str, address: str = "") -> str:
    link = f"<link>{address or f'https://blog.example/{title.lower()}/'}</link>"
    return f"<item><title>{title}</title>{link}<content:encoded><![CDATA[{html}]]></content:encoded></item>"


def feed(*items: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> str:
    space = 'xmlns:content="http://purl.org/rss/1.0/modules/content/"'
    return f'{head}<rss version="2.0" {space}><channel><title>B</title>{"".join(items)}</channel></rss>'
