"""The web application: Flask with its guard, the Dash page on it, downloads, sparklines, health and metrics."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dash import Dash
from dash.development.base_component import Component
from flask import Flask, Response, abort, request, send_file

from bridge.archive.names import is_ours
from bridge.settings import BridgeSettings
from bridge.store.database import Store, now_ms
from bridge.web import guard
from bridge.web.callbacks import register
from bridge.web.facts import Watch, find_file, read_facts
from bridge.web.health import add_health
from bridge.web.page import document, layout, no_layout
from bridge.web.spark import spark_svg
from bridge.web.texts import LANGUAGES, Texts
from mqtt_client.errors import SensorBridgeError
from mqtt_client.logs import escape

LANGUAGE_COOKIE = "language"
YEAR_S = 31_536_000
COMPRESSIBLE = ("application/json", "application/javascript", "text/", "image/svg+xml")
COMPRESSED_FROM_BYTES = 1400


class Page(Dash):
    """Dash with a document in the reader's language."""

    text_of_request: Callable[[], Texts]

    def interpolate_index(self, **parts: Any) -> str:  # type: ignore[override]  # Dash names each of them
        """Return the document around the page."""
        return document(self.text_of_request(), parts)


def make_app(settings: BridgeSettings, store: Store) -> Flask:
    """Return the whole application; it reads the store, and writes nothing but decisions on dead letters."""
    server = Flask("bridge.web", static_folder=None)
    watch = Watch(lambda: read_facts(settings, store))

    def text_of_request() -> Texts:
        return Texts(_language(settings), settings.timezone)

    guard.protect(server, settings, Texts(settings.ui_language, settings.timezone)("forbidden"))
    add_health(server, settings, store, watch)
    _add_downloads(server, settings, store, text_of_request)
    page = Page(
        "bridge.web",
        server=server,  # type: ignore[arg-type]  # Dash's types forget it
        assets_folder=str(Path(__file__).with_name("assets")),
        update_title=None,  # type: ignore[arg-type]  # None keeps the title
        add_log_handler=False,
        suppress_callback_exceptions=True,
        meta_tags=[
            {"name": "viewport", "content": "width=device-width, initial-scale=1"},
            {"name": "color-scheme", "content": "light dark"},
        ],
    )
    page.text_of_request = text_of_request
    may_decide = settings.web_password is not None
    has_rules = settings.alarm_rules is not None

    def make_layout() -> Component:
        try:
            facts = watch.look()
        except SensorBridgeError as exc:
            return no_layout(text_of_request(), escape(str(exc)))
        return layout(facts, text_of_request(), may_decide=may_decide, has_rules=has_rules)

    page.layout = make_layout
    register(page, settings, store, watch, text_of_request)
    _finish_responses(server, guard.content_policy(page.csp_hashes()))
    return server


def _language(settings: BridgeSettings) -> str:
    for wanted in (request.args.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wanted in LANGUAGES:
            return wanted
    return settings.ui_language


def _add_downloads(
    server: Flask, settings: BridgeSettings, store: Store, text_of_request: Callable[[], Texts]
) -> None:
    @server.get("/archives/<name>")
    def archive(name: str) -> Response:
        path = find_file(settings, name) if is_ours(name) else None
        if path is None:
            abort(404)
        return send_file(path, as_attachment=True, download_name=name, max_age=0)

    @server.get("/spark/<int:line_id>.svg")
    def spark(line_id: int) -> Response:
        picture = spark_svg(store, line_id, now_ms(), text_of_request())
        return Response(picture, 200, {"Cache-Control": "private, max-age=300"}, "image/svg+xml")


def _finish_responses(server: Flask, policy: str) -> None:
    @server.after_request
    def finish(response: Response) -> Response:
        response.headers.update(guard.HEADERS)
        response.headers["Content-Security-Policy"] = policy
        response.headers.setdefault("Cache-Control", "no-store")
        wanted = request.args.get("lang")
        if wanted in LANGUAGES and response.mimetype == "text/html":
            response.set_cookie(LANGUAGE_COOKIE, wanted, max_age=YEAR_S, httponly=True, samesite="Lax")
        return _compressed(response)


def _compressed(response: Response) -> Response:
    """Compress what is text and long: the page's programs are megabytes, and its data come every second."""
    fits = (response.mimetype or "").startswith(COMPRESSIBLE) and response.status_code == 200
    if not fits or response.is_streamed or response.direct_passthrough or response.headers.get("Content-Encoding"):
        return response
    response.headers.add("Vary", "Accept-Encoding")
    if not request.accept_encodings["gzip"] or (response.content_length or 0) < COMPRESSED_FROM_BYTES:
        return response
    compressor = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    response.set_data(compressor.compress(response.get_data()) + compressor.flush())
    response.headers["Content-Encoding"] = "gzip"
    return response
