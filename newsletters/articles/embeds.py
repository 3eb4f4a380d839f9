"""What cannot play in an email -> one linked line that says what it is."""

import re
from urllib.parse import parse_qs, urlsplit

from bs4 import BeautifulSoup, Tag
from django.utils.translation import gettext as _

from newsletters.articles.fetch import absolute

VIDEO, AUDIO = "video", "audio"
SITES = {
    "youtube.com": (VIDEO, "YouTube"),
    "youtube-nocookie.com": (VIDEO, "YouTube"),
    "youtu.be": (VIDEO, "YouTube"),
    "vimeo.com": (VIDEO, "Vimeo"),
    "dailymotion.com": (VIDEO, "Dailymotion"),
    "dai.ly": (VIDEO, "Dailymotion"),
    "loom.com": (VIDEO, "Loom"),
    "soundcloud.com": (AUDIO, "SoundCloud"),
    "spotify.com": (AUDIO, "Spotify"),
    "deezer.com": (AUDIO, "Deezer"),
    "podcasts.apple.com": (AUDIO, "Apple Podcasts"),
    "ausha.co": (AUDIO, "Ausha"),
    "acast.com": (AUDIO, "Acast"),
}
# The address of a player -> the address of the page where a person watches or listens
PAGES = (
    (
        re.compile(r"^https?://(?:www\.)?youtube(?:-nocookie)?\.com/embed/([\w-]{6,20})"),
        "https://www.youtube.com/watch?v={}",
    ),
    (re.compile(r"^https?://player\.vimeo\.com/video/(\d+)"), "https://vimeo.com/{}"),
    (re.compile(r"^https?://(?:www\.)?dailymotion\.com/embed/video/(\w+)"), "https://www.dailymotion.com/video/{}"),
    (re.compile(r"^https?://open\.spotify\.com/embed/(\w+/\w+)"), "https://open.spotify.com/{}"),
    (re.compile(r"^https?://embed\.(podcasts\.apple\.com/.+)"), "https://{}"),
)
PLAYERS = ["iframe", "video", "audio", "embed", "object"]


def replace(soup: BeautifulSoup, base: str) -> None:
    """Put a linked line in the place of every player, and of every lone address of a known video or audio site."""
    for player in soup.find_all(PLAYERS):
        source = player if player.get("src") or player.get("data") else player.find(["source", "embed"]) or player
        kind = player.name if player.name in (VIDEO, AUDIO) else ""
        _put(soup, player, kind, absolute(base, str(source.get("src") or source.get("data") or "")))
    for paragraph in soup.find_all(["p", "div", "figure"]):
        address = paragraph.get_text().strip()
        if re.fullmatch(r"https?://[^\s<>\"]+", address) and _site(address) and not paragraph.find("img"):
            _put(soup, paragraph, "", address)


def _put(soup: BeautifulSoup, old: Tag, kind: str, address: str) -> None:
    address = page_of(address)
    if not address.startswith(("http://", "https://")) or not host_of(address):
        old.decompose()
        return
    paragraph, link = soup.new_tag("p"), soup.new_tag("a", href=address)
    link.string = label(kind, address)
    paragraph.append(link)
    old.replace_with(paragraph)


def host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def label(kind: str, address: str) -> str:
    """Return the words of the line, in the language that is active."""
    kind, site = _site(address) or (kind, "")
    if site:
        return (_("Watch the video on %(site)s") if kind == VIDEO else _("Listen on %(site)s")) % {"site": site}
    if kind == VIDEO:
        return _("Watch the video")
    if kind == AUDIO:
        return _("Listen to the recording")
    return _("See on %(site)s what the article shows here") % {"site": host_of(address)}


def page_of(player: str) -> str:
    """Return the page for people that belongs to a player's address, else the address itself."""
    if host_of(player) == "w.soundcloud.com":
        return parse_qs(urlsplit(player).query).get("url", [player])[0]
    for pattern, page in PAGES:
        if match := pattern.match(player):
            return page.format(match[1])
    return player


def _site(address: str) -> tuple[str, str] | None:
    host = host_of(address)
    return next((site for end, site in SITES.items() if host == end or host.endswith("." + end)), None)
