"""Looks at pages in Chromium, with the Python of tools/browser: what axe finds, what overflows, which marks look alike.

USAGE: browser.py PAGE … writes a JSON document with the findings for each page, by its path.
"""

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

SIZES = ((360, 740), (1280, 900), (2560, 1400))
DEFICIENCIES = ("none", "achromatopsia", "deuteranopia", "protanopia", "tritanopia")
KINDS = {"states": ".k .m", "runs": ".k .h", "days": ".k .y"}
DIFFERENCE = """async images => {
  const pixels = [];
  for (const image of images) {
    const bitmap = await createImageBitmap(await (await fetch("data:image/png;base64," + image)).blob());
    const canvas = new OffscreenCanvas(32, 32), context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0, 32, 32);
    const data = context.getImageData(0, 0, 32, 32).data, grey = [];
    for (let at = 0; at < data.length; at += 4) grey.push((data[at] + data[at + 1] + data[at + 2]) / 3);
    pixels.push(grey);
  }
  let least = 255;
  for (let one = 0; one < pixels.length; one++)
    for (let other = 0; other < one; other++) {
      let apart = 0;
      for (let at = 0; at < pixels[one].length; at++) apart += Math.abs(pixels[one][at] - pixels[other][at]) > 40;
      least = Math.min(least, 100 * apart / pixels[one].length);
    }
  return least;
}"""


def look(browser: Browser, path: Path, pictures: Path | None) -> dict[str, Any]:
    """Return the findings for one page."""
    found: dict[str, Any] = {"violations": [], "overflow": [], "requests": [], "marks": {}, "checked": 0, "focus": 0}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.on("request", lambda one: found["requests"].append(one.url))
        page.goto(path.as_uri())
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                found["overflow"].append(f"{scheme}, {width}: {wide} pixels too wide")
            if width != SIZES[scheme == "dark"][0]:
                # Axe takes seconds: the narrow page in light and the wide one in dark have all that it looks at.
                continue
            result = Axe().run(page, options={"resultTypes": ["violations"]}).response
            found["checked"] += len(result["passes"])
            for one in result["violations"]:
                nodes = [node["html"][:160] for node in one["nodes"][:3]]
                found["violations"].append(f"{scheme}, {width}: {one['id']}: {one['help']}: {nodes}")
            if pictures is not None:
                page.screenshot(path=pictures / f"{path.stem}-{scheme}-{width}.png")
        found["marks"] |= {f"{scheme}, {name}": apart for name, apart in marks(page).items()}
        found["focus"] = page.evaluate("document.querySelectorAll('a[href], summary').length")
        found["text"] = page.inner_text("body")
        context.close()
    return found


def marks(page: Page) -> dict[str, float]:
    """Return by vision deficiency in how many percent of their pixels the two most similar marks of a kind differ.

    The kinds are those of the legends: the states, the runs, and the days.
    """
    session = page.context.new_cdp_session(page)
    apart = {}
    for deficiency in DEFICIENCIES:
        session.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
        for kind, selector in KINDS.items():
            every = page.query_selector_all(selector)
            images = [base64.b64encode(one.screenshot()).decode() for one in every]
            if len(images) > 1:
                apart[f"{kind}, {deficiency}"] = page.evaluate(DIFFERENCE, images)
    session.send("Emulation.setEmulatedVisionDeficiency", {"type": "none"})
    return apart


def main() -> None:
    """Look at each page."""
    arguments = sys.argv[1:]
    pictures = Path(arguments.pop(0).partition("=")[2]) if arguments[0].startswith("--pictures=") else None
    with sync_playwright() as driver:
        # Chromium's sandbox does not work for root, and these pages hold nothing that runs.
        program = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        print(json.dumps({path: look(browser, Path(path), pictures) for path in arguments}))
        browser.close()


if __name__ == "__main__":
    main()
