"""WordPress's [shortcodes] -> what they stand for in an email: a link, their own text, or nothing."""

import re
from html import escape

# [gallery ids="1,2"], [/caption], and WordPress's own way to mean it literally: [[gallery]]
SHORTCODE = re.compile(r"(\[?)\[(/?)([a-zA-Z][\w-]{1,40})(?=[\s/\]])([^\[\]]{0,600})\](\]?)")
# name="value" once or more; word processors make the quotation marks round.
ATTRIBUTES = re.compile(r"""(?:\s+[\w-]{1,40}\s*=\s*(?:"[^"]*"|'[^']*'|[”“″«][^”“″»]*[”“″»]|[^\s"'”“″«<>]+))+\s*/?""")
ADDRESS = re.compile(r"""https?://[^\s"'<>\]”]+""")
# Words in brackets are mostly the author's own, "[sic]": without attributes only these count.
_KNOWN = (
    "gallery playlist caption embed video audio youtube vimeo dailymotion soundcloud spotify toc ez-toc more button "
    "contact-form contact-form-7 gravityform ninja_form wpforms mailpoet_form mc4wp_form instagram-feed twitter tweet "
    "facebook instagram recent-posts archives wp_caption columns column row"
)
KNOWN = frozenset(_KNOWN.split())
EMBED = re.compile(
    r"\[(embed|youtube|video|audio|vimeo|soundcloud)\b([^\[\]]{0,300})\]\s*(https?://[^\s\[<]+)\s*\[/\1\]"
)
PLAYERS = frozenset({"embed", "youtube", "video", "audio", "vimeo", "dailymotion", "soundcloud", "spotify"})


def replace(html: str) -> str:
    """Return the text without shortcodes. A player becomes a paragraph that holds its address alone."""
    html = EMBED.sub(lambda match: _player(match[1], match[3]), html)
    return SHORTCODE.sub(_one, html)


def _one(match: re.Match[str]) -> str:
    literal, closing, name, attributes, end = match.groups()
    if literal and end:
        return match[0][1:-1]
    if not _is_shortcode(name, attributes, bool(closing)):
        return match[0]
    if name.lower() in PLAYERS or "youtube" in name.lower() or "vimeo" in name.lower():
        address = ADDRESS.search(attributes)
        return literal + (_player(name.lower(), address[0]) if address else "") + end
    return literal + end


def _is_shortcode(name: str, attributes: str, closing: bool) -> bool:
    if ATTRIBUTES.fullmatch(attributes):
        return True
    if name.lower() in PLAYERS and attributes.strip().startswith("http"):
        return True
    bare = not attributes.strip(" \t\n/\u00a0")
    return bare and (closing or "_" in name or name.lower() in KNOWN)


def _player(name: str, address: str) -> str:
    if name in {"video", "audio"}:
        return f'\n\n<{name} src="{escape(address)}"></{name}>\n\n'
    return f'\n\n<iframe src="{escape(address)}"></iframe>\n\n'
