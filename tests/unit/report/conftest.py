"""A browser for the tests of reports."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
LOADS = "Network.requestWillBeSent"


class Browser:
    """A headless Chromium that opens files and tells what it loaded and complained of."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.script = driver.execute_script
        self.find = lambda selector: driver.find_elements("css selector", selector)

    def open(self, path: Path, *, hash: str = "", width: int = 1400, dark: bool = False) -> None:
        """Open a page afresh."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[theme])
        self.driver.get("about:blank")
        self.loads()
        self.complaints()
        self.driver.get(path.as_uri() + hash)

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def settle(self) -> None:
        """Let two frames be drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def loads(self) -> list[str]:
        """The addresses of what was asked for since the last call."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [item["params"]["request"]["url"] for item in events if item["method"] == LOADS]

    def complaints(self) -> list[str]:
        """The lines of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def text(self, selector: str) -> str:
        """The text of the first element."""
        return str(self.script("return document.querySelector(arguments[0]).textContent", selector))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One Chromium for all tests of a process."""
    if DRIVER is None or BROWSER is None:
        pytest.skip("needs Chromium and chromedriver (Debian: chromium, chromium-driver)")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # it refuses to run as root with one
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    # A browser that hangs fails the test; else it would end the run, see `faulthandler_timeout`.
    driver.command_executor.client_config.timeout = 60
    processes = psutil.Process(driver.service.process.pid).children(recursive=True)
    yield driver
    driver.quit()
    # Its helpers end a moment after it.
    _, alive = psutil.wait_procs(processes, timeout=10)
    for process in alive:
        process.kill()


@pytest.fixture
def browser(chromium: Any) -> Browser:
    """The browser, as a test may use it."""
    return Browser(chromium)
