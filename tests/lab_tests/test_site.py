"""The documentation as a site: links lead somewhere, other servers are asked nothing, Markdown comes through."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from lab import site
from lab.release.project import ROOT, Project, ReleaseError

HERE = Project("https://github.com/some-owner/cnpg-backup", "1.2.3")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("words\n* one\n* two\n", "words\n\n* one\n* two\n"),
        (
            "1. first\n\n   ```sh\n   x * y\n   ```\n\n   after\n",
            "1. first\n\n    ```sh\n    x * y\n    ```\n\n    after\n",
        ),
        ("* a\n  continued\n  * deeper\n* b\n", "* a\n    continued\n\n    * deeper\n* b\n"),
        ("words\n| a |\n| - |\n| b |\n", "words\n\n| a |\n| - |\n| b |\n"),
        ("```\n* no list\nwords\n* no list\n```\n", "```\n* no list\nwords\n* no list\n```\n"),
        ("<!-- runs: x -->\n```sh\na\n```\n", "```sh\na\n```\n"),
        ("* a\n\nwords\n  * b\n", "* a\n\nwords\n\n  * b\n"),
        ("10. ten\n    more\n", "10. ten\n    more\n"),
        ("| `a\\|b` | c\\|d |\n", "| `a|b` | c\\|d |\n"),
        ("`a\\|b`\n", "`a\\|b`\n"),
    ],
)
def test_markdown_of_the_repository_comes_through(text: str, wanted: str) -> None:
    assert site.portable(text) == wanted


def test_no_line_ends_within_the_name_of_an_option() -> None:
    html = "<code>restore a-b --on-error keep -A</code> --x <pre><code><span>--x</span></code></pre>"
    one, two = (f"<span class=option>{name}</span>" for name in ("--on-error", "-A"))
    assert site.unbroken(html) == html.replace("--on-error", one).replace("-A", two)


def test_each_page_is_once_in_the_menu() -> None:
    listed = json.dumps(site.menu(ROOT))
    for page in site.sources(ROOT):
        assert listed.count(f'"{page}"') == 1, page


def test_links_out_of_the_pages_lead_to_the_repository() -> None:
    def linked(text: str) -> str:
        return site.linked(text, "docs/restore.md", ROOT, HERE)

    assert linked("[x](../chart/ci/home-values.yaml)") == f"[x]({HERE.home}/blob/v1.2.3/chart/ci/home-values.yaml)"
    assert linked("[x](../chart/ci/)") == f"[x]({HERE.home}/tree/v1.2.3/chart/ci)"
    assert linked("[x](security.md#network)") == "[x](security.md#network)"
    assert linked(f"[x]({HERE.home}/blob/v1.2.3/docs/nfs.md#locks)") == "[x](../docs/nfs.md#locks)"
    for picture in ("pictures/run.svg", "pictures/page.png"):
        assert linked(f"![x]({picture})") == f"![x]({picture})"
    picture = '<source srcset="pictures/run.svg"> <img src="pictures/run.svg"> <img src="https://x.y/z.svg">'
    deeper = '<source srcset="../pictures/run.svg"> <img src="../pictures/run.svg"> <img src="https://x.y/z.svg">'
    assert linked(picture) == deeper, "the page is in a folder of its own"
    assert site.linked(picture, "README.md", ROOT, HERE) == picture
    with pytest.raises(ReleaseError, match=r"links to nothing\.md, which is not in the repository"):
        linked("[x](nothing.md)")
    report = site.linked("[x](../../security/advisories/new)", "SECURITY.md", ROOT, HERE)
    assert report == f"[x]({HERE.home}/security/advisories/new)"


@pytest.mark.parametrize("page", site.sources(ROOT))
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    """The site's own build, in the long tests, also looks at the parts of pages."""
    site.linked((ROOT / page).read_text(), page, ROOT, HERE)


def test_dead_links_and_requests_to_other_servers_are_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="https://fonts.example.org/x.css"><h1 id="top"></h1>'
        '<script src="//cdn.example.org/x.js"></script><a href="a/#there">x</a><a href="a/#gone">x</a>'
        '<a href="b/">x</a><a href="#top">x</a><a href="https://x.y">'
    )
    (tmp_path / "a" / "index.html").write_text('<h2 id="there"></h2><img src="../missing.svg">')
    (tmp_path / "x.css").write_text(
        '@import "https://css.example.org/y.css"; a { background: url(data:image/png;base64,) }'
    )
    assert site.problems(tmp_path) == [
        "a/index.html: ../missing.svg leads nowhere",
        "index.html loads https://fonts.example.org/x.css",
        "index.html loads //cdn.example.org/x.js",
        "index.html: a/#gone names a part that is not there",
        "index.html: b/ leads nowhere",
        "x.css loads https://css.example.org/y.css",
    ]


@pytest.mark.long
def test_a_browser_that_opens_the_site_asks_no_other_server(tmp_path: Path) -> None:
    """Each page in Chromium: its log of the network has no address but those of the files."""
    assert site.build(ROOT, tmp_path / "site") == []
    pages = ["index.html", "docs/restore/index.html", "docs/plugin/index.html", "chart/index.html"]
    for number, page in enumerate(pages):
        log = tmp_path / f"net-{number}.json"
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--no-first-run", "--allow-file-access-from-files",
                f"--user-data-dir={tmp_path / f'profile-{number}'}", f"--log-net-log={log}",
                "--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path / 'site' / page}",
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        urls = {
            str(event["params"]["url"])
            for event in json.loads(log.read_text())["events"]
            if "url" in event.get("params", {})
        }
        assert [url for url in sorted(urls) if url.startswith(("http:", "https:", "ws")) and "google" not in url] == []
