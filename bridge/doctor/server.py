"""The user's server, asked without sending a reading.

An empty POST could make an entry at a server that checks little, so none is
sent: OPTIONS and HEAD change nothing (RFC 9110, section 9.2.1). What they
cannot tell, such as a token that only POST wants, the forwarder's own last
answers do, where the bridge runs.
"""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from bridge.forward.answers import Answer
from bridge.forward.transport import Connection, Server
from bridge.settings import BridgeSettings
from bridge.store.database import now_ms
from bridge.store.jobs import JobState
from mqtt_client.probe.finding import Finding, fail, ok, warn

SKEW_S = 5.0
RECENT_S = 600.0
CANNOT_SAY = {400, 405, 406, 411, 415, 422, 501}
"""Answers to a question that say nothing of a POST."""


def find(settings: BridgeSettings, forward: JobState | None) -> Iterator[Finding]:
    """Ask the server."""
    if settings.server_url is None:
        yield ok("server", "none is set: archives only")
        return
    server = Server(settings.server_url, settings.server_token, settings.server_timeout)
    yield from _forwarding(forward)
    connection = Connection(server)
    try:
        answer = connection.ask("OPTIONS")
        if answer.status in CANNOT_SAY and not _takes_post(answer):
            answer = connection.ask("HEAD")
    finally:
        connection.close()
    took = _last_success_s(forward)
    yield judge(answer, server.shown, took is not None and took < RECENT_S)
    yield from _clock(answer, time.time())


def judge(answer: Answer, shown: str, takes_readings: bool) -> Finding:
    """Return what an answer to OPTIONS or HEAD means; ``takes_readings``: the forwarder was answered 2xx lately."""
    status = answer.status
    if status is None:
        return fail("server", f"{shown}: {answer.trouble}", "start your server, or set SERVER_URL")
    if takes_readings and status < 500:
        return ok("server", f"{shown} answers")
    if 300 <= status < 400:
        advice = "set SERVER_URL to the address it redirects to; readings are never sent after a redirect"
        return fail("server", f"{shown} redirects ({status}) to {answer.location}", advice)
    if status in (401, 403, 407):
        return fail("server", f"{shown} refuses access ({status})", "set SERVER_TOKEN to what your server expects")
    if status in (404, 410):
        return fail("server", f"{shown} answers {status}: there is no such page", "set SERVER_URL to its path")
    if status >= 500 and status != 501:
        return fail("server", f"{shown} fails ({status})", "look at your server's log")
    if _takes_post(answer):
        return ok("server", f"{shown} takes POST")
    if answer.allow is not None:
        advice = "set SERVER_URL to the path that takes readings"
        return fail("server", f"{shown} takes {answer.allow}, not POST: it would answer 405", advice)
    return ok("server", f"{shown} answers {status}; whether it takes readings, `mqtt-bridge status` tells")


def _takes_post(answer: Answer) -> bool:
    return "POST" in {method.strip().upper() for method in (answer.allow or "").split(",")}


def _forwarding(forward: JobState | None) -> Iterator[Finding]:
    """Tell what the forwarder itself says, where it runs."""
    if forward is None:
        return
    if forward.word in ("ok", "idle"):
        took = _last_success_s(forward)
        yield ok("forwarding", "not paused" if took is None else f"the server took readings {took:.0f} s ago")
        return
    result = warn if forward.word == "waiting" else fail
    yield result(
        "forwarding", f"{forward.word}: {forward.state.get('reason', '')}", "it goes on by itself once right"
    )


def _last_success_s(forward: JobState | None) -> float | None:
    at_ms = forward.state.get("last_success_ms") if forward else None
    return (now_ms() - at_ms) / 1000 if isinstance(at_ms, int) else None


def _clock(answer: Answer, now_s: float) -> Iterator[Finding]:
    """Compare the server's clock with this one, by its Date header."""
    try:
        ahead_s = parsedate_to_datetime(answer.date or "").timestamp() - now_s
    except ValueError:
        return
    if abs(ahead_s) <= SKEW_S:
        yield ok("clock", f"server and this machine agree within {SKEW_S:g} s")
    else:
        side = "ahead of" if ahead_s > 0 else "behind"
        yield warn("clock", f"the server's clock is {abs(ahead_s):.0f} s {side} this machine's", "set the wrong one")
