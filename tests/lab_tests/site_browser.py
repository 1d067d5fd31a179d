"""Looks at pages of a site in Chromium, with the Python of tools/browser: what axe finds, what is cut off or too small.

USAGE: site_browser.py [--pictures=FOLDER] SITE PAGE … writes a JSON document with the findings for each page, by its
path below the folder SITE.
"""

import contextlib
import functools
import http.server
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

SIZES = ((1280, 900), (360, 740))
SCHEMES = ("light", "dark")
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """async () => {
  const found = [];
  for (const image of document.querySelectorAll("article img")) {
    const source = await (await fetch(image.currentSrc)).text();
    const size = source.match(/font-size: (\\d+)px/), box = source.match(/viewBox="0 0 ([\\d.]+)/);
    if (!size || !box) continue;
    const drawn = size[1] * image.getBoundingClientRect().width / box[1];
    if (drawn < 8) found.push(`${image.currentSrc.split("/").pop()}: letters of ${drawn.toFixed(1)} pixels`);
  }
  return found;
}"""


def look(browser: Browser, address: str, name: str, pictures: Path | None) -> dict[str, Any]:
    """Return the findings for one page."""
    found: dict[str, Any] = {"violations": [], "overflow": [], "small": [], "checked": 0}
    for scheme in SCHEMES:
        context = browser.new_context(color_scheme=scheme, viewport={"width": SIZES[0][0], "height": SIZES[0][1]})
        page = context.new_page()
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.goto(address, wait_until="networkidle")
            where = f"{scheme}, {width}"
            wide = page.evaluate(WIDE)
            if wide > 0:
                found["overflow"].append(f"{where}: {wide} pixels too wide")
            found["small"] += [f"{where}: {one}" for one in page.evaluate(SMALL)]
            result = Axe().run(page, options={"resultTypes": ["violations"]}).response
            found["checked"] += len(result["passes"])
            for one in result["violations"]:
                nodes = [node["html"][:160] for node in one["nodes"][:3]]
                found["violations"].append(f"{where}: {one['id']}: {one['help']}: {nodes}")
            if pictures is not None:
                stem = name.removesuffix("index.html").strip("/").replace("/", "-") or "start"
                part = {"x": 0, "y": 0, "width": width, "height": 2 * height}
                page.screenshot(path=pictures / f"{stem}-{scheme}-{width}.png", full_page=True, clip=part)
        context.close()
    return found


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def main() -> None:
    """Look at each page."""
    arguments = sys.argv[1:]
    pictures = Path(arguments.pop(0).partition("=")[2]) if arguments[0].startswith("--pictures=") else None
    site, *pages = arguments
    handler = functools.partial(_Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, contextlib.ExitStack() as after:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        after.callback(server.shutdown)
        with sync_playwright() as driver:
            # Chromium's sandbox does not work for root, and these pages are our own.
            program = shutil.which("chromium")
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            base = f"http://127.0.0.1:{server.server_port}"
            print(json.dumps({page: look(browser, f"{base}/{page}", page, pictures) for page in pages}))
            browser.close()


if __name__ == "__main__":
    main()
