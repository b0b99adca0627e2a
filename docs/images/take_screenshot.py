"""Take page.png from a running service that has the collection `demo`.

Run it from the root of the repository, with Chromium installed, after the page has changed:

    .venv/bin/python docs/images/take_screenshot.py http://localhost:8000
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

PICTURE = Path(__file__).with_name("page.png")
ADDRESS = "/#/neighbours/demo/digit-0007"
SIZE = ViewportSize(width=1280, height=860)
COLOURS = 64
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def take(url: str) -> None:
    """Write the picture of the first neighbours of a digit, in few colours to keep it small."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    # The sandbox of Chromium does not run as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=arguments)
        page = chromium.new_context(viewport=SIZE, color_scheme="light").new_page()
        page.goto(url.rstrip("/") + ADDRESS, wait_until="networkidle")
        page.get_by_text("bits differ").first.wait_for()
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        chromium.close()
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    take(sys.argv[1])
