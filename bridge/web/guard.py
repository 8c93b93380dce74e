"""Who may see what: passwords, host names, and what a browser is told to refuse.

Without WEB_PASSWORD the page listens on loopback only, and answers only to
loopback's names, so that no web page elsewhere can read it under a name of
its own (DNS rebinding). With it, everything but ``/healthz`` asks for it;
``/readyz`` and ``/metrics`` do not when they are asked from this machine
itself, without a proxy between. Decisions are taken only from the page's own
origin. Nothing is remembered but the failed attempts of the last minute.
"""

import hashlib
import hmac
import threading
import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Flask, Response, request

from bridge.settings import BridgeSettings, is_loopback

REALM = 'Basic realm="mqtt-sensor-bridge", charset="UTF-8"'
OPEN_TO_ALL = ("/healthz",)
OPEN_TO_THIS_MACHINE = ("/readyz", "/metrics")
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

FAILURES_ALLOWED = 20
FAILURES_WITHIN_S = 60.0

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}


def content_policy(script_hashes: Sequence[str]) -> str:
    """Return the Content-Security-Policy: nothing from elsewhere; styles inline, since the charts write them."""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' {' '.join(script_hashes)}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class Failures:
    """Wrong passwords of the last minute; an address with too many is not listened to for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: deque[tuple[float, str]] = deque(maxlen=10_000)

    def note(self, address: str) -> None:
        """Note a wrong password."""
        with self._lock:
            self._known.append((time.monotonic(), address))

    def are_too_many(self, address: str) -> bool:
        """Tell whether somebody is guessing from there."""
        with self._lock:
            while self._known and self._known[0][0] < time.monotonic() - FAILURES_WITHIN_S:
                self._known.popleft()
            return sum(one == address for _, one in self._known) >= FAILURES_ALLOWED


def protect(server: Flask, settings: BridgeSettings, refusal: str) -> None:
    """Check each request before it is answered; ``refusal`` is said to who asks by another machine's name."""
    failures = Failures()
    expected = _digest(settings.web_password.reveal()) if settings.web_password else None

    @server.before_request
    def check() -> Response | None:
        if request.method not in SAFE_METHODS and not _is_own_origin():
            return _refuse(403, "decisions are taken from the page's own origin alone")
        if request.path in OPEN_TO_ALL:
            return None
        if expected is None:
            return None if _is_loopback_name() else _refuse(403, refusal)
        if request.path in OPEN_TO_THIS_MACHINE and _is_from_this_machine():
            return None
        return _check_password(expected, failures)


def _check_password(expected: bytes, failures: Failures) -> Response | None:
    given = request.authorization
    if given is not None and given.type == "basic" and given.password is not None:
        address = request.remote_addr or ""
        if failures.are_too_many(address):
            return _refuse(429, "too many wrong passwords; wait a minute", {"Retry-After": "60"})
        if hmac.compare_digest(_digest(given.password), expected):
            return None
        failures.note(address)
    return _refuse(401, "the password is that of WEB_PASSWORD; any user name will do", {"WWW-Authenticate": REALM})


def _digest(password: str) -> bytes:
    """Return what is compared: of one length whatever was given."""
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()


def _is_own_origin() -> bool:
    """Tell whether the browser says that our own page asks; programs that are no browsers say nothing."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


def _is_loopback_name() -> bool:
    host = urlsplit(f"//{request.host}").hostname or ""
    return is_loopback(host) or host.endswith(".localhost")


def _is_from_this_machine() -> bool:
    return is_loopback(request.remote_addr or "") and not any(name in request.headers for name in FORWARDED)


def _refuse(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(text + "\n", status, {"Cache-Control": "no-store", **(headers or {})}, "text/plain")
