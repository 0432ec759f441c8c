"""Alerts by Airflow's notifiers: one message an event, to wherever a connection points."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.notifier import BaseNotifier

from include.errors import Transient, Usage
from operators.config import task_settings

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

log = logging.getLogger(__name__)

WEBHOOK_CONNECTION = "understudy_webhook"
"""Its host is the URL that alerts are posted to; a password is sent as a bearer token."""
EMAIL_CONNECTION = "understudy_email"
"""An SMTP server; its extra says ``from_email`` and ``to``."""
TIMEOUT_S = 20.0


class WebhookNotifier(BaseNotifier):
    """Posts JSON to the URL of a connection.

    Args:
        payload: what to post; text in it is templated.
        connection: id of the connection.

    Raises:
        Transient: ``alert.failed``: nobody answered, or with an error.
        Usage: ``alert.url``: the connection's host is no http or https URL.
    """

    template_fields: Sequence[str] = ("payload",)

    def __init__(
        self, payload: Mapping[str, Any], connection: str = WEBHOOK_CONNECTION, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.payload = payload
        self.connection = connection

    def notify(self, context: Context) -> None:
        """Post it."""
        import urllib.request
        from http.client import HTTPException

        from airflow.sdk import Connection

        found = Connection.get(self.connection)
        url = str(found.host or "")
        if not url.startswith(("https://", "http://")):
            raise Usage(
                f"connection {self.connection}: its host has to be the whole URL, with https://",
                code="alert.url",
            )
        headers = {"Content-Type": "application/json"}
        if found.password:
            headers["Authorization"] = f"Bearer {found.password}"
        body = json.dumps(self.payload).encode()
        request = urllib.request.Request(url, body, headers, method="POST")
        opener = urllib.request.build_opener(_no_redirects())
        try:
            with opener.open(request, timeout=TIMEOUT_S):
                pass
        except (OSError, HTTPException) as error:
            raise Transient(f"the webhook did not take it: {error}", code="alert.failed") from error


def _no_redirects() -> Any:
    """A redirect is no receipt: followed, the post becomes a GET, and its token goes elsewhere."""
    import urllib.request

    class Handler(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
            return None

    return Handler()


def send_webhook(event: Mapping[str, Any], context: Context) -> str:
    """Post one event; says what was done."""
    connection = _connection(WEBHOOK_CONNECTION)
    if connection is None:
        return _silent(WEBHOOK_CONNECTION)
    notifier = WebhookNotifier({name: event[name] for name in ("id", "subject", "text", "link")})
    return _once("webhook", event, lambda: notifier.notify(context))


def send_email(event: Mapping[str, Any], context: Context) -> str:
    """Mail one event; says what was done."""
    from html import escape

    connection = _connection(EMAIL_CONNECTION)
    if connection is None:
        return _silent(EMAIL_CONNECTION)
    to = connection.extra_dejson.get("to")
    if not to:
        raise Usage(
            f"connection {EMAIL_CONNECTION}: its extra says no 'to': who gets the mail",
            code="alert.to",
        )
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    link = escape(event["link"])
    where = f'<p><a href="{link}">What drifted, and by how much</a></p>' if link else ""
    notifier = SmtpNotifier(
        to=to,
        subject=event["subject"],
        html_content=f"<p>{escape(event['text'])}</p>{where}",
        smtp_conn_id=EMAIL_CONNECTION,
    )
    return _once("email", event, lambda: notifier.notify(context))


def _once(channel: str, event: Mapping[str, Any], send: Any) -> str:
    """Send unless an earlier try of this or another task did."""
    from datetime import UTC, datetime

    from include.store import open_store

    store = open_store(task_settings(store=event["store"]).store)
    marker = f"{event['tenant']}/drift/sent/{channel}/{event['id']}"
    if store.head(marker):
        return "sent before"
    send()
    store.put_if_absent(marker, datetime.now(UTC).isoformat().encode())
    return "sent"


def _connection(name: str) -> Connection | None:
    """A connection that points somewhere; None where nobody configured it."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        found = Connection.get(name)
    except AirflowNotFoundException:
        return None
    return found if found.host else None


def _silent(name: str) -> str:
    log.info("Connection %s is not set: nothing was sent", name)
    return "not configured"
