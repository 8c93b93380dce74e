"""The user's Flask server in small: takes readings by POST /data, keeps each once, lists them with GET /data.

Run it with ``python examples/receiver.py``. What was answered with 200 is on the disk; a power cut before that leaves
nothing of the request, and the bridge sends it again under the same key.
"""

import argparse
import hmac
import json
import sqlite3
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path

import waitress
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

KEYS = frozenset({"timestamp", "node", "sensor", "id", "time", "clock"})  # all others are quantities
TABLE = "CREATE TABLE IF NOT EXISTS readings (number INTEGER PRIMARY KEY, key TEXT, body TEXT, received TEXT)"
UNIQUE = "CREATE UNIQUE INDEX IF NOT EXISTS readings_key ON readings (key)"  # rows without a key are never equal


class Refused(Exception):
    """A body that will never be taken; answered as problem details (RFC 9457)."""

    def __init__(self, status: int, detail: str, element: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.element = status, element


def store(database: sqlite3.Connection, key: str | None, body: str) -> int:
    """Store one reading, or find the one stored under its key; return its row's number."""
    # The half-dozen lines that make sending twice harmless; the caller commits before it answers.
    row = database.execute("SELECT number, body FROM readings WHERE key = ?", (key,)).fetchone()
    if row and row[1] != body:
        raise Refused(422, f"the key {key!r} was used for another reading before")
    if row:
        return int(row[0])  # a repeat: answered like the first time
    received = datetime.now(UTC).isoformat(timespec="milliseconds")
    new = database.execute("INSERT INTO readings (key, body, received) VALUES (?, ?, ?)", (key, body, received))
    return int(new.lastrowid or 0)


def check(reading: object, header: str | None) -> tuple[str | None, str]:
    """Return a reading's key and its text to store, or say what is wrong with it."""
    if not isinstance(reading, dict) or not isinstance(reading.get("timestamp"), str):
        raise Refused(422, "a reading is an object with a text as its timestamp")
    quantities = reading.keys() - KEYS
    if not quantities:
        raise Refused(422, "a reading without any value")
    for quantity in sorted(quantities):
        value = reading[quantity]
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
            raise Refused(422, f"{quantity} is no finite number")
    key = header.strip().strip('"') if header is not None else reading.get("id")
    if key is not None and not (isinstance(key, str) and key.isprintable() and 0 < len(key) <= 255):
        raise Refused(422, "the key is not 1 to 255 printable signs")
    return key, json.dumps(reading, sort_keys=True)


def create_app(database: Path, token: str | None = None) -> Flask:
    """Make the server over this SQLite file; with a token, only for those who send it."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024 * 1024
    database.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(database, check_same_thread=False)
    weakref.finalize(app, connection.close)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", TABLE, UNIQUE):
        connection.execute(statement)  # FULL: a commit that returned is on the disk
    turn = threading.Lock()  # one request at a time uses the connection

    def store_all(readings: list[object], header: str | None, *, several: bool) -> list[dict[str, object]]:
        """Store all of a request or nothing of it."""
        results: list[dict[str, object]] = []
        with turn, connection:  # commits at the end, rolls back when an element is refused
            for index, reading in enumerate(readings):
                try:
                    key, body = check(reading, header)
                    results.append({"number": store(connection, key, body), "id": key})
                except Refused as exc:
                    raise Refused(exc.status, f"element {index}: {exc}", index) if several else exc from None
        return results

    @app.before_request
    def authorise() -> None:
        given = request.headers.get("Authorization", "").encode()
        if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise Refused(401, "the token is missing or wrong")

    @app.post("/data")
    def take() -> dict[str, object]:
        try:
            sent = json.loads(request.get_data())
        except (ValueError, RecursionError) as exc:
            raise Refused(400, f"the body is no JSON: {exc}") from exc
        if isinstance(sent, list):  # each element's id is its key
            return {"stored": store_all(sent, None, several=True)}
        return store_all([sent], request.headers.get("Idempotency-Key"), several=False)[0]

    @app.get("/data")
    def list_readings() -> Response:
        """List all readings in the order of their arrival, or with ?limit=N the newest N of them."""
        newest = request.args.get("limit", -1, type=int)
        with turn:
            rows = connection.execute("SELECT body FROM readings ORDER BY number DESC LIMIT ?", (newest,)).fetchall()
        return Response(f"[{','.join(body for (body,) in reversed(rows))}]", mimetype="application/json")

    @app.get("/data/count")
    def count() -> dict[str, object]:
        with turn:
            return {"count": connection.execute("SELECT count(*) FROM readings").fetchone()[0]}

    @app.get("/")
    def hint() -> str:
        return "POST /data takes readings, GET /data lists them, GET /data/count counts them.\n"

    @app.errorhandler(Refused)
    def refuse(exc: Refused) -> Response:
        errors = [{"pointer": f"#/{exc.element}", "detail": str(exc)}] if exc.element is not None else []
        return problem(exc.status, str(exc), errors=errors)

    @app.errorhandler(HTTPException)
    def fail(exc: HTTPException) -> Response:
        return problem(exc.code or 500, exc.description or "")

    return app


def problem(status: int, detail: str, **more: object) -> Response:
    """Answer with problem details (RFC 9457)."""
    content = {"type": "about:blank", "title": HTTP_STATUS_CODES.get(status, ""), "status": status, "detail": detail}
    return Response(json.dumps(content | more), status, mimetype="application/problem+json")


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--database", type=Path, default=Path("data/receiver.db"))
    parser.add_argument("--token")
    given = parser.parse_args()
    print(f"receiver: POST http://{given.host}:{given.port}/data, stored in {given.database}", flush=True)
    waitress.serve(create_app(given.database, given.token), host=given.host, port=given.port, threads=8)


if __name__ == "__main__":
    main()
