"""The page without a browser, and a real Chromium; see test_browser.py for the whole bridge behind it."""

import base64
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from flask.testing import FlaskClient
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.web.app import make_app
from tests.bridge.conftest import bridge_settings, store, stored_readings

__all__ = ["bridge_settings", "store", "stored_readings"]

PASSWORD = "open, sesame"


@pytest.fixture
def client(store: Store, bridge_settings: Callable[..., BridgeSettings]) -> FlaskClient:
    """Asks the page as this machine does, without a password."""
    return make_app(bridge_settings(), store).test_client()


@pytest.fixture
def guarded(store: Store, bridge_settings: Callable[..., BridgeSettings]) -> FlaskClient:
    """Asks the page that has a password."""
    return make_app(bridge_settings(WEB_PASSWORD=PASSWORD), store).test_client()


def credentials(password: str = PASSWORD) -> dict[str, str]:
    """Return the header with a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


class OpenBrowser(Protocol):
    """Opens Chromium; it is closed after the test."""

    def __call__(self, *, dark: bool = False, width: int = 1280, height: int = 900) -> WebDriver: ...


@pytest.fixture(scope="session")
def chromium() -> Iterator[WebDriver]:
    """One Chromium for all tests; each gets it without cookies and storage."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program, "chromium is not installed; `make test` installs it where it may"
    assert driver, "chromium's driver is not installed; `make test` installs it where it may"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    folder = tempfile.mkdtemp(prefix="chromium-")
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-dev-shm-usage",
        f"user-data-dir={folder}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    yield running
    running.quit()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_browser(chromium: WebDriver) -> Iterator[OpenBrowser]:
    """Chromium with a size, a theme and the page's password; it forgets everything between tests."""

    def start(*, dark: bool = False, width: int = 1280, height: int = 900) -> WebDriver:
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.execute_cdp_cmd("Network.enable", {})
        chromium.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": credentials()})
        return chromium

    yield start
    for command in ("Network.clearBrowserCookies", "Network.clearBrowserCache"):
        chromium.execute_cdp_cmd(command, {})
    if chromium.current_url.startswith("http"):
        chromium.execute_script("localStorage.clear()")  # type: ignore[no-untyped-call]
    chromium.get("about:blank")
    chromium.get_log("browser")  # type: ignore[no-untyped-call]


def complaints(browser: WebDriver) -> list[dict[str, Any]]:
    """Return what the browser's console complains of."""
    logged: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry for entry in logged if entry["level"] in ("SEVERE", "WARNING")]


def screenshot(browser: WebDriver, path: Path) -> None:
    """Save the whole page as a picture."""
    height = browser.execute_script("return document.documentElement.scrollHeight")  # type: ignore[no-untyped-call]
    width = browser.execute_script("return innerWidth")  # type: ignore[no-untyped-call]
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(picture["data"]))
