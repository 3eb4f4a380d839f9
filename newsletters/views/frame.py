"""A stranger's HTML, shown in a box of its own."""

import re

from django.http import HttpResponse

# What a mail client would let a message do: look like something, and open a link in a window of its own.
SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
POLICY = (
    f"sandbox {SANDBOX}; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'self'"
)
HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)


def framed(html: str) -> HttpResponse:
    """Answer with HTML for a sandboxed frame on this site: no scripts, no forms, nothing from elsewhere."""
    # Links in mail name no window; inside the frame they would load into it and be refused.
    base = '<base target="_blank">'
    body = HEAD.sub(lambda head: head[0] + base, html, count=1) if HEAD.search(html) else base + html
    return HttpResponse(body, headers={"Content-Security-Policy": POLICY, "X-Frame-Options": "SAMEORIGIN"})
