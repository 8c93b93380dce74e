"""What machines ask: is the process alive, do the readings move (503 where they stand still), how much is there.

The paths are ``/healthz``, ``/readyz`` and ``/metrics``.
"""

from flask import Flask, Response

from bridge.metrics import CONTENT_TYPE, exposition
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.web.facts import Watch
from bridge.web.texts import Texts
from bridge.web.views import why_text
from bridge.web.way import standing_still
from mqtt_client.errors import SensorBridgeError


def add_health(server: Flask, settings: BridgeSettings, store: Store, watch: Watch) -> None:
    """Answer these three paths."""
    text = Texts("en", settings.timezone)

    @server.get("/healthz")
    def healthz() -> Response:
        return Response("alive\n", 200, mimetype="text/plain")

    @server.get("/readyz")
    def readyz() -> Response:
        try:
            facts = watch.look()
        except SensorBridgeError as exc:
            return Response(f"store: {exc}\n", 503, mimetype="text/plain")
        reasons = [f"store: {facts.fault}"] if facts.fault else []
        reasons += [
            f"{stage.place}: {why_text(stage.why, text) if stage.why else 'stands still'}"
            for stage in standing_still(facts.stages)
        ]
        if reasons:
            return Response("\n".join(reasons) + "\n", 503, mimetype="text/plain")
        return Response("ready\n", 200, mimetype="text/plain")

    @server.get("/metrics")
    def metrics() -> Response:
        try:
            return Response(exposition(settings, store), 200, content_type=CONTENT_TYPE)
        except SensorBridgeError as exc:
            return Response(f"{exc}\n", 503, mimetype="text/plain")
