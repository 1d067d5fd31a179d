"""Build the documentation as a site: `python -m lab.site [FOLDER]`, by default build/site.

The pages are those of the repository, at the same paths, so that their links work. Links to what is not a page lead to
the repository at this version. The site is plain files: it asks nothing of other servers, and searches in the browser.
"""

from __future__ import annotations

import argparse
import html.parser
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from lab.release.package import run, tool
from lab.release.project import ROOT, Project, ReleaseError, read

NAVIGATION: dict[str, tuple[str, ...]] = {
    "Begin": ("docs/start.md", "docs/choosing.md"),
    "Restore": ("docs/restore.md", "docs/restore-matrix.md"),
    "Every day": ("docs/plugin.md", "docs/monitoring.md", "docs/retention.md"),
    "Set up": (
        "chart/README.md", "docs/set-ups.md", "docs/coming-from.md", "docs/all-databases.md", "docs/namespaces.md",
        "docs/nfs.md", "docs/object-store.md", "docs/offsite.md", "docs/longhorn.md", "docs/copies.md",
        "docs/upgrading.md",
    ),
    "Background": (
        "docs/security.md", "docs/architecture.md", "docs/seed.md", "docs/benchmark.md",
        "docs/benchmark-restore.md", "docs/benchmark-cluster.md", "docs/benchmark-retention.md",
        "docs/benchmark-offsite.md",
    ),
    "Runbooks": ("docs/runbooks/*.md",),
    "Project": (
        "CHANGELOG.md", "ROADMAP.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "ADOPTERS.md",
    ),
}  # fmt: skip
"""The pages by section, in the order of the menu. Others come last, so that a new page is never missing."""

TITLES = {"chart/README.md": "The chart and its values"}
"""What the menu calls a page whose heading says too little there."""

_LINK = re.compile(r"`[^`\n]*`|(!?\[[^\]]*\]\()([^)\s]+)(\))")
"""A link, or a piece of code, in which nothing is one."""

_ITEM = re.compile(r"^( *)([-*+]|\d+[.]) +(?=\S)")
_FENCE = re.compile(r"^ *(```+|~~~+)")


def sources(root: Path) -> list[str]:
    """Return the paths of all pages of the site."""
    found = [*root.glob("*.md"), *root.glob("docs/**/*.md"), root / "chart" / "README.md"]
    return sorted(str(path.relative_to(root)) for path in found)


def menu(root: Path) -> list[dict[str, object]]:
    """Return the menu, with each page once."""
    left = dict.fromkeys(sources(root))
    left.pop("README.md")
    found: list[dict[str, object]] = [{"Start": "README.md"}]
    for title, patterns in NAVIGATION.items():
        chosen = [path for pattern in patterns for path in list(left) if Path(path).match(pattern)]
        for path in chosen:
            left.pop(path)
        found.append({title: [{TITLES[path]: path} if path in TITLES else path for path in chosen]})
    return [*found, {"More": list(left)}] if left else found


def portable(text: str) -> str:
    """Return Markdown as GitHub reads it in a form that Python-Markdown reads alike.

    It wants four columns for each level of a list, and an empty line before lists and tables. In a table, code with a
    bar needs no back slash before it, and would show it.
    """
    found: list[str] = []
    levels: list[int] = []
    fence = ""
    for line in text.splitlines():
        if line.startswith("<!-- runs: "):
            continue
        indent = len(line) - len(line.lstrip(" "))
        if not line.strip():
            found.append("")
            continue
        if not fence:
            while levels and indent < levels[-1]:
                levels.pop()
        item = None if fence else _ITEM.match(line)
        depth = 4 * len(levels) + max(indent - (levels[-1] if levels else 0), 0)
        before = found[-1] if found else ""
        starts = item or (line.lstrip().startswith("|") and not fence)
        same = _ITEM.match(before) if item else before.lstrip().startswith("|")
        if starts and before and not same and not (item and levels_continue(before, depth)):
            found.append("")
        rest = line[indent:]
        if rest.startswith("|") and not fence:
            rest = re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), rest)
        found.append(" " * depth + rest)
        if item:
            levels.append(len(item[0]))
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""
    return "\n".join(found) + "\n"


def levels_continue(before: str, depth: int) -> bool:
    """Whether the line before an item is the end of an item of the same or a deeper level."""
    return len(before) - len(before.lstrip(" ")) > depth


def linked(text: str, page: str, root: Path, project: Project) -> str:
    """Return a page whose links to what is not a page of the site lead to the repository."""
    known = set(sources(root))
    here = Path(page).parent
    up = "../" * len(here.parts)

    def replaced(match: re.Match[str]) -> str:
        target = match[2]
        if not target:
            return match[0]
        own = re.escape(project.page("docs/"))
        target = re.sub(rf"^{own}", f"{up}docs/", target)
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return f"{match[1]}{target}{match[3]}"
        if path.startswith("../../security/"):  # a page of the repository's host
            return f"{match[1]}{project.home}/{path.removeprefix('../../')}{match[3]}"
        full = (root / here / path).resolve()
        if not full.exists():
            raise ReleaseError(f"{page} links to {path}, which is not in the repository")
        name = str(full.relative_to(root.resolve()))
        if name in known or full.suffix in (".svg", ".png"):
            return f"{match[1]}{target}{match[3]}"
        address = project.folder(name) if full.is_dir() else project.page(name)
        return f"{match[1]}{address}{'#' + anchor if anchor else ''}{match[3]}"

    # The generator leaves HTML as it is, and puts the page into a folder of its own.
    deeper = "" if Path(page).name == "README.md" else "../"
    text = re.sub(r'\b(src|srcset)="(?!\w+:)([^"]+)"', rf'\1="{deeper}\2"', text)
    return _LINK.sub(replaced, text)


def staged(root: Path, folder: Path, project: Project) -> None:
    """Write the pages and pictures as the generator reads them."""
    for page in sources(root):
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(portable(linked((root / page).read_text(), page, root, project)))
    for picture in root.glob("docs/**/*.svg"):
        target = folder / picture.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        # The terminal's pictures name a font of another server; the fonts of the reader do as well.
        target.write_text(re.sub(r"@font-face\s*\{[^}]*\}", "", picture.read_text()))
    for picture in root.glob("docs/**/*.png"):
        target = folder / picture.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)
    (folder / "style.css").write_text(STYLE)


STYLE = """\
/* Wide tables scroll within the page; code and paths break before they widen it. */
.md-typeset__table { display: block; overflow-x: auto; }
.md-typeset :not(pre) > code { word-break: break-word; }
.md-typeset code .option { white-space: nowrap; }
.md-typeset table:not([class]) { font-size: .68rem; }
.md-typeset img { max-width: 100%; }
/* Links in a sentence are told apart by more than their colour. */
.md-typeset :is(p, li, td) a:not(.headerlink) { text-decoration: underline; text-underline-offset: .15em; }
/* The theme's colours of code and of links are too faint for weak eyes. */
[data-md-color-scheme="default"] {
  --md-code-hl-number-color: #b3261e; --md-code-hl-special-color: #b0124a; --md-code-hl-function-color: #8a359a;
  --md-code-hl-constant-color: #5a45c4; --md-code-hl-keyword-color: #2f5aa8; --md-code-hl-string-color: #17663f;
  --md-code-hl-operator-color: #595959; --md-code-hl-punctuation-color: #595959; --md-code-hl-comment-color: #595959;
  --md-code-hl-generic-color: #595959; --md-code-hl-variable-color: #595959;
}
[data-md-color-scheme="slate"] {
  --md-code-hl-number-color: #ff9a8d; --md-code-hl-special-color: #ff7fb0; --md-code-hl-function-color: #d9a0ea;
  --md-code-hl-constant-color: #b8abff; --md-code-hl-keyword-color: #8fb1ff; --md-code-hl-string-color: #4fd08b;
  --md-code-hl-operator-color: #b4b8c5; --md-code-hl-punctuation-color: #b4b8c5; --md-code-hl-comment-color: #b4b8c5;
  --md-code-hl-generic-color: #b4b8c5; --md-code-hl-variable-color: #b4b8c5;
}
[data-md-color-scheme="slate"][data-md-color-primary] { --md-typeset-a-color: #8fb1ff; }
"""

ACCESSIBLE = (
    # The theme's search is a dialog without a name.
    (
        "**/*.html",
        'data-md-component="search" role="dialog"',
        'data-md-component="search" role="dialog" aria-label="Search"',
    ),
    # The first column of a table often needs no title, and a title without text is read out as one.
    ("**/*.html", "<th></th>", "<td></td>"),
    # A wide table scrolls, which someone without a mouse does only where it gets the focus.
    ("**/*.html", "<table>", '<table tabindex="0">'),
    # Each block of code has its button to copy it in a part of the page that says it were a menu.
    ("assets/javascripts/bundle.*.js", '"nav",{class:"md-code__nav"', '"div",{class:"md-code__nav"'),
)
"""What the generator and its theme write, and what a screen reader or a keyboard can use: files, text, new text."""


def accessible(site: Path) -> None:
    """Put right in a built site what the generator and its theme make a barrier."""
    for pattern, before, after in ACCESSIBLE:
        for path in site.glob(pattern):
            text = path.read_text()
            if before in text:
                path.write_text(text.replace(before, after))


def unbroken(html: str) -> str:
    """Return a page in whose sentences and tables no line ends within the name of an option."""
    option = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
    return re.sub(
        r"<code>([^<]*)</code>",
        lambda code: f"<code>{option.sub(lambda name: f'<span class=option>{name[0]}</span>', code[1])}</code>",
        html,
    )


def configuration(root: Path, folder: Path, out: Path, project: Project) -> dict[str, object]:
    """Return what the generator is told."""
    scheme = "(prefers-color-scheme: {})"
    toggles = [
        {
            "media": scheme.format(one),
            "scheme": name,
            "primary": "indigo",
            "toggle": {"icon": icon, "name": f"Use the {other} colours"},
        }
        for one, name, icon, other in (
            ("light", "default", "material/weather-night", "dark"),
            ("dark", "slate", "material/weather-sunny", "light"),
        )
    ]
    return {
        "site_name": "cnpg-backup",
        "site_description": "Scheduled, verified, restorable logical backups of CloudNativePG databases",
        "docs_dir": str(folder),
        "site_dir": str(out),
        "nav": menu(root),
        "strict": True,
        "theme": {
            "name": "material",
            # Fonts of the reader's system: none is fetched from anywhere.
            "font": False,
            "palette": toggles,
            "features": [
                "navigation.sections",
                "navigation.top",
                "content.code.copy",
                "search.highlight",
                "toc.follow",
            ],
            "icon": {"logo": "material/database-arrow-down"},
            "favicon": "",
        },
        "plugins": ["search"],
        "extra_css": ["style.css"],
        # Not `repo_url`: with it, the browser asks the repository's host for its stars.
        "extra": {
            "generator": False,
            "social": [{"icon": "fontawesome/brands/git-alt", "link": project.home, "name": "The repository"}],
        },
        "validation": {
            "links": dict.fromkeys(("not_found", "anchors", "absolute_links", "unrecognized_links"), "warn"),
            "nav": {"omitted_files": "warn", "not_found": "warn"},
        },
        "markdown_extensions": [
            "tables",
            # A list that goes on after a block of code keeps its numbers.
            "sane_lists",
            "md_in_html",
            "pymdownx.superfences",
            "pymdownx.highlight",
            "pymdownx.inlinehilite",
            {"toc": {"permalink": True, "slugify": "SLUGIFY"}},
        ],
    }


class _Page(html.parser.HTMLParser):
    """The links of a page, what it loads, and the names of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.names |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        self.loaded += [found[key] for key in ("src", "srcset", "poster", "data") if found.get(key)]
        if tag == "link" and found.get("rel") in {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch"}:
            self.loaded.append(found.get("href", ""))


def problems(site: Path) -> list[str]:
    """Return the links of a built site that lead nowhere, and all that it would load from elsewhere."""
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text())
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in page.loaded:
            if urlsplit(address).netloc:
                found.append(f"{name} loads {address}")
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                found.append(f"{name}: {link} names a part that is not there")
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        found += [
            f"{path.relative_to(site)} loads {address}"
            for address in re.findall(r"(?:@import\s+|url\(\s*)[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text())
        ]
    return found


def build(root: Path, out: Path) -> list[str]:
    """Build the site, and return what is wrong with it."""
    project = read(root)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pages"
        staged(root, folder, project)
        text = yaml.safe_dump(configuration(root, folder, out, project), sort_keys=False)
        slugs = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"
        (Path(name) / "mkdocs.yml").write_text(text.replace("SLUGIFY", slugs))
        shutil.rmtree(out, ignore_errors=True)
        run([tool("site", "mkdocs"), "build", "--quiet", "--strict", "--config-file", Path(name) / "mkdocs.yml"])
    accessible(out)
    for path in out.rglob("*.html"):
        path.write_text(unbroken(path.read_text()))
    (out / "sitemap.xml").unlink(missing_ok=True)
    (out / "sitemap.xml.gz").unlink(missing_ok=True)
    return problems(out)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Build the documentation as a site.")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build" / "site")
    options = parser.parse_args()
    try:
        found = build(ROOT, options.folder.resolve())
    except ReleaseError as error:
        found = [str(error)]
    if found:
        print("\n".join(f"error: {problem}" for problem in found), file=sys.stderr)
        return 1
    print(f"{options.folder}/index.html: {len(list(options.folder.rglob('*.html')))} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
