"""The picture of a simulation: drawn by a real browser, readable, and the same to those who see colours differently."""

import itertools
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from datetime import timedelta
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from retention import Policy, Tier
from retention.rule.picture import DARK, LIGHT, to_html, to_svg
from retention.rule.simulate import Outage, Scenario, Simulation, simulate
from tests.retention.world import DAY, HOUR, REPOSITORY, T0, retention_here

GFS = Policy(
    (
        Tier("W" * 40, 12 * HOUR, 6, 3 * DAY),
        Tier("Daily", DAY, 7, 10 * DAY),
        Tier("Weekly, of which the name is much too long to be of any use", 7 * DAY, 4, 38 * DAY),
        Tier('<b>4-weekly</b> & "more"', 28 * DAY, 12, 374 * DAY),
        Tier("數據庫備份每年一次永久保存的層級名稱", 364 * DAY, 3),
    )
)
OUTAGES = (Outage(5 * DAY, 3 * DAY), Outage(12 * DAY, 10 * DAY))


def scenario(days: int, policy: Policy | None = None, **more: object) -> Scenario:
    policy = policy or Policy.default()
    return Scenario(policy, T0, policy.tiers[0].every, days * DAY, **more)  # type: ignore[arg-type]


SCENARIOS = {
    "seed's policy": scenario(30),
    "outages": scenario(24, jitter=HOUR / 6, outages=OUTAGES, size=300 * 2**20, growth_percent=10),
    "everything": scenario(
        9, fail_percent=40, manual=7, jitter=HOUR, outages=tuple(Outage(n * DAY, HOUR * 3) for n in range(60))
    ),
    "first day": scenario(1),
    "many tiers, long names": scenario(430, GFS),
    "minutes": scenario(2, Policy((Tier("Often", HOUR / 60, 60, HOUR), Tier("Hourly", HOUR, 3)))),
    "one tier": scenario(100, Policy((Tier("Daily", DAY, 5000),))),
    "nothing at all": scenario(3, outages=(Outage(timedelta(0), 9 * DAY),)),
}

MEASURE = """<script>window.onload = () => {
const result = {};
for (const frame of document.querySelectorAll("iframe")) {
  const svg = frame.contentDocument.querySelector("svg"), box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  const found = [];
  texts.forEach(([told, one], index) => {
    if (one.width == 0 && told.trim()) found.push(`${told}: not drawn`);
    if (one.left < box.left || one.right > box.right || one.top < box.top || one.bottom > box.bottom)
      found.push(`${told}: outside`);
    for (const [other, two] of texts.slice(index + 1))
      if (one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom)
        found.push(`${told} / ${other}: overlap`);
  });
  for (const mark of svg.querySelectorAll("use")) {
    const one = mark.getBoundingClientRect();
    if (one.width == 0 || one.right > box.right + 1 || one.bottom > box.bottom) found.push("a mark is not in sight");
    for (const [told, two] of texts)
      if (one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom)
        found.push(`${told}: a mark is upon it`);
  }
  result[frame.name] = {texts: texts.length, found};
}
document.body.replaceChildren(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(result)}));
}</script>"""


@pytest.fixture(scope="module")
def simulations() -> dict[str, Simulation]:
    return {name: simulate(one) for name, one in SCENARIOS.items()}


def browser(folder: Path, *arguments: str) -> str:
    """Run the browser once and return what it prints."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: run `make packages` as root, or install it"
    line = [program, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    line += [f"--user-data-dir={folder / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else []), *arguments]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class _Preformatted(HTMLParser):
    text = ""
    inside = False

    def handle_starttag(self, tag: str, _: object) -> None:
        self.inside |= tag == "pre"

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside else ""


def test_labels_never_overlap_and_all_is_in_sight(simulations: dict[str, Simulation], tmp_path: Path) -> None:
    """As a browser lays them out, not as we suppose."""
    frames = "".join(
        f'<iframe name="{escape(name)}" width="1000" height="1000" srcdoc="{escape(to_svg(one))}"></iframe>'
        for name, one in simulations.items()
    )
    page = tmp_path / "all.html"
    page.write_text(f"<!DOCTYPE html><meta charset='utf-8'><body>{frames}{MEASURE}</body>")
    reader = _Preformatted()
    reader.feed(browser(tmp_path, "--dump-dom", page.as_uri()))
    measured = json.loads(reader.text)
    assert set(measured) == set(SCENARIOS)
    for name, one in measured.items():
        assert one["texts"] >= 8, f"{name}: hardly any label was measured"
        assert not one["found"], f"{name}: {one['found'][:5]}"


@pytest.mark.parametrize(("colours", "setting"), [(LIGHT, 1), (DARK, 0)], ids=["light", "dark"])
def test_png_shows_every_tier_on_the_paper_that_the_reader_asks_for(
    simulations: dict[str, Simulation], tmp_path: Path, colours: dict[str, object], setting: int
) -> None:
    (tmp_path / "one.svg").write_text(to_svg(simulations["outages"]))
    browser(
        tmp_path,
        f"--blink-settings=preferredColorScheme={setting}",
        "--window-size=960,420",
        f"--screenshot={tmp_path / 'one.png'}",
        (tmp_path / "one.svg").as_uri(),
    )
    pixels = Counter(png_pixels((tmp_path / "one.png").read_bytes()))
    assert pixels.most_common(1)[0][0] == colours["paper"]
    tiers = colours["tiers"]
    assert isinstance(tiers, tuple)
    for colour in (*tiers[:3], colours["gap"], colours["ink"]):
        assert pixels[str(colour)] > 60, f"{colour} is hardly in the picture"
    for colour in tiers[3:]:
        assert pixels[colour] < 5, f"{colour} is of no tier"


def png_pixels(content: bytes) -> list[str]:
    """Return the colours of a PNG of eight bits a channel, as `#rrggbb`."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed, width, channels = 8, b"", 0, 0
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, _, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            channels = {2: 3, 6: 4}[colour]
            assert (depth, interlaced) == (8, 0)
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    raw, stride, pixels = zlib.decompress(packed), width * channels, []
    before = bytearray(stride)
    for begin in range(0, len(raw), stride + 1):
        line = _unfiltered(raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride]), before, channels)
        text = line.hex()
        pixels += [f"#{text[2 * i : 2 * i + 6]}" for i in range(0, stride, channels)]
        before = line
    return pixels


def _unfiltered(kind: int, line: bytearray, before: bytearray, channels: int) -> bytearray:
    """Undo a PNG filter: what was subtracted is the left, the upper, their mean, or Paeth's choice."""
    for i in range(len(line)) if kind else ():
        left = line[i - channels] if i >= channels else 0
        up, corner = before[i], before[i - channels] if i >= channels else 0
        if kind == 4:
            guess = left + up - corner
            near = min((abs(guess - value), order) for order, value in enumerate((left, up, corner)))[1]
            predicted = (left, up, corner)[near]
        else:
            predicted = {1: left, 2: up, 3: (left + up) // 2}[kind]
        line[i] = (line[i] + predicted) & 255
    return line


# --- colours -------------------------------------------------------------------------------------------------------

SIGHT = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What is seen of linear red, green and blue; Machado, Oliveira and Fernandes, 2009, at full severity."""


def linear(colour: str) -> list[float]:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]


def seen(colour: str, sight: str) -> tuple[float, float, float]:
    """Return a colour as CIE L*a*b*, as somebody sees it."""
    given = linear(colour)
    red, green, blue = (
        min(1.0, max(0.0, sum(part * value for part, value in zip(row, given, strict=True)))) for row in SIGHT[sight]
    )
    white = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in white)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours by the WCAG."""
    lights = sorted(
        sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(of), strict=True)) for of in (one, other)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_tiers_and_gaps_differ_to_every_eye(colours: dict[str, object], sight: str) -> None:
    """Twenty in CIE L*a*b* is plain to see side by side; ten is seen at a glance."""
    tiers = colours["tiers"]
    assert isinstance(tiers, tuple)
    for one, other in itertools.combinations([*tiers, str(colours["gap"])], 2):
        apart = sum((a - b) ** 2 for a, b in zip(seen(one, sight), seen(other, sight), strict=True)) ** 0.5
        assert apart >= 20, f"{one} and {other} with {sight}: {apart:.0f}"


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_stands_out_from_the_paper(colours: dict[str, object]) -> None:
    tiers = colours["tiers"]
    assert isinstance(tiers, tuple)
    for name, least in {"ink": 7.0, "faint": 4.5, "gap": 3.0}.items():
        assert contrast(str(colours[name]), str(colours["paper"])) >= least, name
    for colour in tiers:
        assert contrast(colour, str(colours["paper"])) >= 3, colour


# --- what is drawn -------------------------------------------------------------------------------------------------


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own


@pytest.mark.parametrize("name", SCENARIOS)
def test_picture_is_one_sound_document_that_fetches_nothing(simulations: dict[str, Simulation], name: str) -> None:
    svg = to_svg(simulations[name])
    parsed(svg)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|@import|url\(", svg)
    assert "<b>" not in to_html(simulations[name])


def test_each_backup_of_each_day_is_a_mark_of_its_tier(simulations: dict[str, Simulation]) -> None:
    one = simulations["outages"]
    root = parsed(to_svg(one))
    marks = Counter(use.get("href") for use in root.iter("{http://www.w3.org/2000/svg}use"))
    names = [tier.name for tier in one.scenario.policy.tiers]
    for index, name in enumerate(names):
        # One more stands in the legend.
        assert marks[f"#s{index}"] == 1 + sum(day.kept.get(name, 0) for day in one.days)
    assert marks["#so"] == 1 + sum(day.kept.get("oldest", 0) for day in one.days)


def test_gap_is_drawn_where_there_is_one_and_nowhere_else(simulations: dict[str, Simulation]) -> None:
    assert to_svg(simulations["seed's policy"]).count('class="gap"') == 1, "the legend has one"
    days = [day.day for day in simulations["outages"].days if not day.made]
    assert len(days) == 13
    assert to_svg(simulations["outages"]).count('class="gap"') > len(days)


def test_long_simulation_is_drawn_in_rows_that_fit(simulations: dict[str, Simulation]) -> None:
    root = parsed(to_svg(simulations["many tiers, long names"]))
    assert float(str(root.get("height"))) < 1000
    labels = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "small"]
    assert labels[-1] == "429"


def test_picture_in_the_documentation_is_what_the_command_draws() -> None:
    line = "simulate --days 24 --outage 12d+10d --size 300Mi --format svg"
    assert f"python3 -m retention {line}" in (REPOSITORY / "docs" / "retention.md").read_text()
    drawn = retention_here(*line.split()).out
    assert (REPOSITORY / "docs" / "retention.svg").read_text() == drawn, f"run {line} > docs/retention.svg"
