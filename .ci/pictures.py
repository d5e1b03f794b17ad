"""Make the pictures of the documentation again, light and dark, into docs/pictures/.

    .uv/bin/uv run .ci/pictures.py

- console-*.svg: a recording of the live console, which shows the run of demo_run.py in a terminal.
- report-*.png: the HTML report of that run, in Chromium.
- one SVG per diagram of docs/pictures/*.mmd, drawn by Mermaid in Chromium.

Needs what `.ci/browser` and `.ci/mermaid` install. Nothing in the pictures is remote.
"""

from __future__ import annotations

import base64
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from fcntl import ioctl
from html import escape
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

import pyte
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent / "docs" / "pictures"

COLUMNS, ROWS = 78, 25
FRAME_SECONDS = 0.3  # at least, from one frame to the next
LAST_SECONDS = 5.0
CELL_WIDTH, CELL_HEIGHT, MARGIN = 9.6, 20.0, 12.0

Frame = list[str]  # a line of SVG for each row
THEMES = {
    "light": {
        "background": "#f6f8fa",
        "default": "#24292f",
        "green": "#1a7f37",
        "red": "#cf222e",
        "brown": "#9a6700",
        "cyan": "#0b7285",
        "blue": "#0969da",
        "brightblack": "#6e7781",
    },
    "dark": {
        "background": "#181a1f",
        "default": "#dcdfe4",
        "green": "#98c379",
        "red": "#e06c75",
        "brown": "#e5c07b",
        "cyan": "#56b6c2",
        "blue": "#61afef",
        "brightblack": "#8d9095",
    },
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        frames = record([sys.executable, str(HERE / "demo_run.py"), "report.html"], folder)
        for theme in THEMES:
            (PICTURES / f"console-{theme}.svg").write_text(
                animated(frames, theme), encoding="utf-8"
            )
        browser = open_browser()
        try:
            for theme in THEMES:
                show(browser, Path(folder, "report.html"), theme)
                (PICTURES / f"report-{theme}.png").write_bytes(picture_of(browser))
            for source in sorted(PICTURES.glob("*.mmd")):
                for theme in THEMES:
                    svg = diagram(browser, source.read_text(encoding="utf-8"), theme)
                    (PICTURES / f"{source.stem}-{theme}.svg").write_text(svg, encoding="utf-8")
        finally:
            browser.quit()


# The console


def record(command: list[str], folder: str) -> list[tuple[float, Frame]]:
    """Run a command in a terminal; return what it shows, each with the seconds until then."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ["TERM"] = "xterm-256color"
        os.execv(command[0], command)
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    frames: list[tuple[float, Frame]] = []
    begin = time.monotonic()
    try:
        while True:
            ready, _, _ = select.select([terminal], [], [], FRAME_SECONDS)
            if ready:
                # The emulator knows no faint text: grey stands for it.
                stream.feed(os.read(terminal, 65536).replace(b"\x1b[2m", b"\x1b[90m"))
            now = time.monotonic() - begin
            if not ready or not frames or now - frames[-1][0] > FRAME_SECONDS:
                frames.append((now, frame_of(screen)))
    except OSError:  # the end of the terminal
        frames.append((time.monotonic() - begin, frame_of(screen)))
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"{command} failed: {os.waitstatus_to_exitcode(status)}")
    return [
        frame for i, frame in enumerate(frames) if any(frame[1]) and frame[1] != frames[i - 1][1]
    ]


def frame_of(screen: pyte.Screen) -> Frame:
    """The rows of a screen as SVG, each piece of one colour as a `tspan`."""
    return [
        row_of([screen.buffer[row][column] for column in range(COLUMNS)]) for row in range(ROWS)
    ]


def row_of(cells: list[Any]) -> str:
    pieces: list[tuple[tuple[str, bool], int, str]] = []
    for column, cell in enumerate(cells):
        style = (cell.fg, cell.bold)
        if pieces and pieces[-1][0] == style:
            last = pieces[-1]
            pieces[-1] = (style, last[1], last[2] + cell.data)
        else:
            pieces.append((style, column, cell.data))
    spans = []
    for (colour, bold), column, text in pieces:
        shown = text.rstrip()
        if not shown:
            continue
        weight = ' font-weight="bold"' if bold else ""
        spans.append(
            f'<tspan x="{column * CELL_WIDTH:.1f}" textLength="{len(shown) * CELL_WIDTH:.1f}"'
            f' class="{colour}"{weight}>{escape(shown)}</tspan>'
        )
    return "".join(spans)


def animated(frames: list[tuple[float, Frame]], theme: str) -> str:
    """The frames as one SVG; who wants no motion sees the last. Equal rows are kept once."""
    colours = THEMES[theme]
    whole = frames[-1][0] - frames[0][0] + LAST_SECONDS
    rows: dict[str, int] = {}
    style, body = [], []
    for number, (moment, frame) in enumerate(frames):
        uses = "".join(
            f'<use href="#r{rows.setdefault(row, len(rows))}" y="{line * CELL_HEIGHT:.0f}"/>'
            for line, row in enumerate(frame)
            if row
        )
        body.append(f'<g class="f" id="f{number}">{uses}</g>')
        begin = 100 * (moment - frames[0][0]) / whole
        last = number == len(frames) - 1
        end = 100 if last else 100 * (frames[number + 1][0] - frames[0][0]) / whole
        after = "" if last else f"{end:.2f}%{{visibility:hidden}}"
        style.append(
            f"@keyframes k{number}{{0%{{visibility:{'hidden' if number else 'visible'}}}"
            f"{begin:.2f}%{{visibility:visible}}{after}}}"
            f"#f{number}{{animation:k{number} {whole:.1f}s step-end infinite}}"
        )
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, ROWS * CELL_HEIGHT + 2 * MARGIN
    texts = "\n".join(
        f'<text id="r{n}" xml:space="preserve">{row}</text>' for row, n in rows.items()
    )
    fills = "".join(f".{name}{{fill:{colour}}}" for name, colour in colours.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' width="{width:.0f}" height="{height:.0f}" role="img">\n'
        "<title>The live console: ended tasks above, running tasks below</title>\n"
        "<style>text{font:16px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}"
        f"{fills}.f{{visibility:hidden}}#f{len(frames) - 1}{{visibility:visible}}\n"
        f"@media (prefers-reduced-motion:no-preference){{{''.join(style)}}}</style>\n"
        f"<defs>\n{texts}\n</defs>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{colours["background"]}"/>\n'
        f'<g transform="translate({MARGIN:.0f} {MARGIN + 15:.0f})">\n'
        + "\n".join(body)
        + "\n</g>\n</svg>\n"
    )


# The browser


def open_browser() -> Chrome:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        sys.exit("Chromium and its driver are needed: run .ci/browser as root")
    options = ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # it refuses to run as root with one
    return Chrome(options=options, service=Service(driver))


def show(browser: Chrome, page: Path, theme: str) -> None:
    scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    size = {"width": 1180, "height": 860, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def picture_of(browser: Chrome) -> bytes:
    return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"])


def diagram(browser: Chrome, source: str, theme: str) -> str:
    """Draw a diagram with Mermaid; return an SVG that needs nothing else."""
    script = subprocess.run([HERE / "mermaid"], stdout=subprocess.PIPE, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        address = Path(script.stdout.strip()).as_uri()
        page.write_text(
            f'<meta charset="utf-8"><script src="{address}"></script>', encoding="utf-8"
        )
        browser.get(page.as_uri())
    name = {"light": "neutral", "dark": "dark"}[theme]
    svg = browser.execute_async_script(
        """
        const [source, theme, done] = arguments;
        mermaid.initialize({
          startOnLoad: false, theme, htmlLabels: false, fontFamily: "system-ui, sans-serif",
          flowchart: {htmlLabels: false}, state: {htmlLabels: false}, securityLevel: "strict",
          deterministicIds: true,
        });
        mermaid.render("diagram", source).then(({svg}) => {
          document.body.innerHTML = svg;
          const drawn = document.querySelector("svg"), style = drawn.querySelector("style");
          // Most rules are for other kinds of diagrams.
          style.textContent = [...style.sheet.cssRules].filter(
            rule => !rule.selectorText || drawn.parentNode.querySelector(rule.selectorText)
          ).map(rule => rule.cssText).join("");
          done(new XMLSerializer().serializeToString(drawn));
        }, error => done("" + error));
        """,
        source,
        name,
    )
    if not svg.startswith("<svg"):
        sys.exit(f"Mermaid: {svg}")
    return str(svg) + "\n"


if __name__ == "__main__":
    main()
