"""Amazon SES: its bulk call with the text in it, for which anymail only knows stored templates. Needs boto3."""

import json
from typing import Any

from anymail.backends import amazon_ses
from django.conf import settings


def client_params() -> dict[str, Any]:
    """Return what boto3 is told, which is JSON in the environment. Raises ValueError."""
    given = getattr(settings, "ANYMAIL", {}).get("AMAZON_SES_CLIENT_PARAMS", {})
    return json.loads(given) if isinstance(given, str) else dict(given)


class Inline(amazon_ses.AmazonSESV2SendBulkEmailPayload):  # type: ignore[misc]
    """SendBulkEmail with DefaultContent.Template.TemplateContent."""

    def init_payload(self) -> None:
        super().init_payload()
        self.content: dict[str, str] = {}

    def set_subject(self, subject: str) -> None:
        self.content["Subject"] = subject

    def set_text_body(self, body: str) -> None:
        self.content["Text"] = body

    def set_html_body(self, body: str) -> None:
        self.content["Html"] = body

    def finalize_payload(self) -> None:
        super().finalize_payload()
        self.params["DefaultContent"] = {"Template": {"TemplateContent": self.content, "TemplateData": "{}"}}


class EmailBackend(amazon_ses.EmailBackend):  # type: ignore[misc]
    """Every mail goes by the bulk call, and boto3 repeats none: it would not know what the first try did."""

    def __init__(self, timeout: float) -> None:
        params = client_params()
        config = {"retries": {"total_max_attempts": 1}, "connect_timeout": timeout, "read_timeout": timeout}
        super().__init__(client_params=params | {"config": params.get("config", {}) | config})

    @property
    def api_url(self) -> str:
        return str(self.client.meta.endpoint_url)

    def build_message_payload(self, message: Any, defaults: Any) -> Inline:
        return Inline(message, defaults, self)
