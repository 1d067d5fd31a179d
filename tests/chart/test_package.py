"""What is packed and mounted: the copies of package and scripts, as they reach the pod."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.chart.common import kept_files, kept_release, maps_of, of_kind, pod_specs, rendered
from tests.lab import chart
from tests.lab.chart import CHART, ROOT
from tests.lab.pod import python_image

SYNC = ROOT / "tools" / "sync-chart-files"
STAMPS = [f"app-202601{day:02}-{hour:02}0000.dump" for day in range(1, 15) for hour in range(0, 24, 2)]


def sources() -> list[str]:
    """Paths of everything that ships: the whole Python package, and every file of `scripts/`."""
    paths = [*(ROOT / "retention").rglob("*.py"), *(ROOT / "scripts").iterdir()]
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """The folder that all pods mount at /opt/cnpg-backup/scripts, written from the rendered ConfigMap."""
    manifests = rendered()
    maps = {manifest["metadata"]["name"]: manifest["data"] for manifest in of_kind(manifests, "ConfigMap")}
    (source,) = {
        json.dumps(volume["configMap"])
        for _, _, spec in pod_specs(manifests)
        for volume in spec["volumes"]
        if volume["name"] == "scripts"
    }
    # As the kubelet does it: all keys in a folder that is seen through links.
    (tmp_path / "..moment").mkdir()
    (tmp_path / "..data").symlink_to("..moment")
    for key, text in maps[json.loads(source)["name"]].items():
        (tmp_path / "..moment" / key).write_bytes(text.encode())
        (tmp_path / key).symlink_to(f"..data/{key}")
    return tmp_path


@pytest.fixture
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python as in the image: nothing is installed, and it starts as it does for everyone."""
    return python_image(tmp_path_factory.mktemp("python")) / "python3"


@pytest.fixture
def run_isolated(mounted: Path, python: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python as the pod does, with the mounted package and without site-packages or environment."""

    def run(*arguments: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-W", "error", *arguments],
            input=standard_input,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd="/",
            env={"PYTHONPATH": str(mounted), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/nonexistent"},
        )

    return run


def test_the_mounted_files_are_the_charts_copies_byte_for_byte(mounted: Path) -> None:
    files = {path.name: path.read_bytes() for path in mounted.iterdir() if path.is_file()}
    paths = {name.removeprefix("scripts/").replace("/", "."): name for name in sources()}
    assert set(files) == set(paths)
    for name in files:
        assert files[name] == (CHART / "charts" / "programs" / "files" / paths[name]).read_bytes()


def test_the_mounted_package_plans_without_any_other(
    run_isolated: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    plan = ("-m", "retention", "plan", "--format", "json", "-")
    done = run_isolated(*plan, standard_input="\n".join(STAMPS) + "\n")
    assert done.returncode == 0, done.stderr
    kept: dict[str, int] = {}
    for entry in json.loads(done.stdout)["keep"]:
        kept[entry["tier"]] = kept.get(entry["tier"], 0) + 1
    assert kept == {"Hourly": 6, "12-Hourly": 4, "Daily": 5}


def test_the_mounted_package_imports_nothing_but_itself_and_the_standard_library(
    mounted: Path, run_isolated: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    modules = sorted(path.stem for path in mounted.glob("retention.*.py") if not path.stem.endswith("__"))
    assert {"retention.names", "retention.cli.main"} <= set(modules)
    code = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = run_isolated("-c", code)
    assert done.returncode == 0, done.stderr
    strangers = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"retention", "sitecustomize", "__main__"}
    assert not strangers, f"the pod's Python has no {strangers}"


def test_the_mounted_modules_are_found_as_in_folders(
    mounted: Path, run_isolated: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """What the programs and their readers rely on: packages, one copy of each module, tracebacks with their lines."""
    (mounted / "retention.new.__init__.py").write_text("from retention.new import below\nfrom .below import fail\n")
    below = mounted / "retention.new.below.py"
    below.write_text("import retention.names as N\ndef fail():\n raise OSError('here')\n")
    code = """
import sys, retention.cli.main, retention.new
assert retention.__path__ == [] and retention.__package__ == "retention"
assert retention.cli.main.__package__ == "retention.cli" and not hasattr(retention.cli.main, "__path__")
assert retention.new.below.N is sys.modules["retention.names"]
for missing in ("retention.nothing", "retention.cli.main.nothing", "sitecustomize.nothing", "nothing"):
    try:
        __import__(missing)
    except ModuleNotFoundError as error:
        assert error.name == missing
retention.new.fail()
"""
    done = run_isolated("-c", code)
    lines = f'File "{below}", line 3, in fail\n' + "    raise OSError('here')\n"
    assert lines in done.stderr, done.stderr
    assert done.stderr.endswith("OSError: here\n")


def test_the_rendered_configuration_is_what_the_package_reads(
    run_isolated: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An empty volume and no results: `finish` must understand every file and fail each database for what is true."""
    folder = tmp_path_factory.mktemp("pod")
    for name in ("config", "results", "backups"):
        (folder / name).mkdir()
    everything = CHART / "ci" / "everything-on-values.yaml"
    databases = set()
    for manifest in maps_of(rendered(everything)):
        if "policy.json" not in manifest["data"] or "-restore-config-" in manifest["metadata"]["name"]:
            continue
        if "offsite.conf" in manifest["data"]:
            continue
        for name, text in manifest["data"].items():
            (folder / "config" / name).write_text(text)
            databases |= {name.removesuffix(".conf")} if name.endswith(".conf") else set()
    arguments = ["finish", "--config", folder / "config", "--results", folder / "results"]
    arguments += ["--termination-log", folder / "termination", folder / "backups"]
    done = run_isolated("-m", "retention", *map(str, arguments))
    assert done.returncode == 1, f"{done.returncode}: {done.stdout}{done.stderr}"
    assert databases == {"app", "app-prod", "app_prod"}
    for database in databases:
        assert f"{database}: " in done.stdout + done.stderr, done.stdout + done.stderr
    assert "reported nothing" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_copies_are_those_of_the_sources() -> None:
    done = subprocess.run([SYNC, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class _Undocumented(ast.NodeTransformer):
    """Python code without strings that are nothing but documentation, and without the types of functions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [one for one in body if not self._is_text(one)] or [ast.Pass()]
        return node

    @staticmethod
    def _is_text(statement: ast.stmt) -> bool:
        return (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )


@pytest.mark.parametrize(
    "path", sorted((CHART / "charts" / "programs" / "files" / "retention").rglob("*.py")), ids=lambda path: path.name
)
def test_python_in_the_chart_is_the_sources_code_without_its_documentation(path: Path) -> None:
    source = (ROOT / path.relative_to(CHART / "charts" / "programs" / "files")).read_text()
    copy = path.read_text()
    assert ast.dump(_Undocumented().visit(ast.parse(copy))) == ast.dump(_Undocumented().visit(ast.parse(source)))
    comments = [one for one in tokenize.generate_tokens(io.StringIO(copy).readline) if one.type == tokenize.COMMENT]
    assert len(comments) == 1, "only the line that names the source"


@pytest.mark.parametrize(
    "path", sorted((CHART / "charts" / "programs" / "files" / "scripts").glob("*.sh")), ids=lambda path: path.name
)
def test_shell_in_the_chart_is_the_sources_code_without_its_comments(path: Path) -> None:
    source, copy = (
        file.read_text() for file in (ROOT / path.relative_to(CHART / "charts" / "programs" / "files"), path)
    )
    left_out = {line for line in source.splitlines()[1:] if line.lstrip().startswith("#")}
    # What stands in a program for awk is a comment there too. Anywhere else in a string it is not one.
    lines = [line for line in _minified(source).splitlines()[1:] if not line.lstrip().startswith("#")]
    assert lines == _minified(copy).splitlines()[1:]
    assert left_out <= _comments_and_awk(source)


def _minified(text: str) -> str:
    """Shell code as shfmt prints it without its comments."""
    return subprocess.run(["shfmt", "-p", "-mn"], input=text, capture_output=True, text=True, check=True).stdout


def _tree(text: str) -> dict[str, Any]:
    done = subprocess.run(["shfmt", "-p", "--to-json"], input=text, capture_output=True, text=True, check=True)
    return cast("dict[str, Any]", json.loads(done.stdout))


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for one in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(one)


def _comments_and_awk(text: str) -> set[str]:
    """The lines of shell code that a comment begins, or that stand in single quotes as awk's programs do."""
    lines = text.splitlines()
    nodes = list(_nodes(_tree(text)))
    quoted = [node.get("Value", "") for node in nodes if node.get("Type") == "SglQuoted"]
    return {lines[node["Hash"]["Line"] - 1] for node in nodes if "Hash" in node} | set("\n".join(quoted).splitlines())


@pytest.fixture
def copy_of_the_repository(tmp_path: Path) -> Path:
    """A small one, with what sync-chart-files reads and has written: some of the sources, and its copies of them."""
    copied = (
        "tools/sync-chart-files",
        "retention/__main__.py",
        "retention/errors.py",
        "scripts/lib.sh",
        "scripts/dump.sh",
    )
    for name in copied:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "chart" / "charts" / "programs" / "files").mkdir(parents=True)
    subprocess.run([tmp_path / "tools" / "sync-chart-files"], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: (root / "retention" / "errors.py").write_text("changed = True\n"), "+changed = True"),
        (
            lambda root: (root / "scripts" / "dump.sh").write_text("#!/bin/sh\n"),
            "chart/charts/programs/files/scripts/dump.sh",
        ),
        (
            lambda root: (root / "chart" / "charts" / "programs" / "files" / "retention" / "errors.py").unlink(),
            "missing, or no regular file",
        ),
        (
            lambda root: (root / "chart" / "charts" / "programs" / "files" / "stray.py").write_text(""),
            "has no source: chart/charts/programs/files/stray.py",
        ),
        (
            lambda root: (root / "chart" / "charts" / "programs" / "files" / "link.py").symlink_to("x"),
            "has no source: chart/charts/programs/files/link.py",
        ),
        (lambda root: (root / "retention" / "new.py").write_text("\n"), "chart/charts/programs/files/retention/new.py"),
    ],
    ids=["source changed", "script changed", "copy missing", "stray file", "stray link", "new source"],
)
def test_drift_is_told_and_then_mended(copy_of_the_repository: Path, change: object, told: str) -> None:
    sync = copy_of_the_repository / "tools" / "sync-chart-files"

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sync, "--check"], capture_output=True, text=True, check=False)

    assert check().returncode == 0, check().stdout
    change(copy_of_the_repository)  # type: ignore[operator]
    before = check()
    assert before.returncode == 1, before.stdout
    assert told in before.stdout
    subprocess.run([sync], check=True)
    assert check().returncode == 0, check().stdout


@pytest.mark.parametrize("missing", ["index", "retention/__main__.py", "scripts/lib.sh", "scripts/dump.sh"])
def test_a_chart_without_its_copies_refuses_to_render(tmp_path: Path, missing: str) -> None:
    shutil.copytree(CHART, tmp_path / "chart")
    (tmp_path / "chart" / "charts" / "programs" / "files" / missing).unlink()
    with pytest.raises(chart.ChartError, match=f"incomplete: charts/programs/files/{missing} is missing"):
        chart.render(chart=tmp_path / "chart")


@pytest.fixture
def package(tools: dict[str, Path], tmp_path: Path) -> Path:
    """The chart as `helm package` makes it, from a copy in which Python has left its bytecode."""
    shutil.copytree(CHART, tmp_path / "chart")
    compiled = tmp_path / "chart" / "charts" / "programs" / "files" / "retention" / "__pycache__"
    compiled.mkdir(exist_ok=True)
    (compiled / "rule.cpython-314.pyc").write_bytes(b"\0")
    chart.run_helm([str(tools["helm"]), "package", str(tmp_path / "chart"), "--destination", str(tmp_path)])
    (archive,) = tmp_path.glob("*.tgz")
    return archive


def test_the_package_holds_what_is_installed_and_nothing_else(package: Path) -> None:
    with tarfile.open(package) as archive:
        members = archive.getmembers()
    assert all(member.isreg() for member in members), "the package holds links or folders"
    names = {member.name.removeprefix("cnpg-backup/") for member in members}
    strays = {name for name in names if name.startswith(("tests/", "ci/")) or name.endswith((".pyc", ".tgz"))}
    assert not strays, strays
    assert names >= {f"charts/programs/files/{path}" for path in ("index", *sources())} | {
        "values.schema.json",
        "templates/validate.yaml",
    }


def test_the_package_renders_what_the_folder_renders(package: Path) -> None:
    assert chart.render(chart=package) == chart.render()


def test_a_release_fits_in_its_secret_twice() -> None:
    """Helm stores the chart and the rendered manifest, gzipped, in one Secret of at most 1 MiB."""
    release = kept_release(chart.render_text(), {})
    assert len(release) < 524_288, f"{len(release)} bytes"


def test_helm_keeps_of_a_release_what_we_count_and_none_of_the_programs(tools: dict[str, Path]) -> None:
    command = [str(tools["helm"]), "install", "r", str(CHART), "--dry-run=client", "--output", "json"]
    text = chart.run_helm([*command, "--values", str(CHART / "ci" / "home-values.yaml")])
    kept = json.loads(text[text.index("{") :])["chart"]
    names = {one["name"] for one in [*kept["files"], *kept["templates"]]}
    assert names == set(kept_files()) - {"Chart.yaml", "values.schema.json"}
    assert "dependencies" not in kept


def test_a_configmap_of_scripts_stays_below_its_limit() -> None:
    for manifest in of_kind(rendered(), "ConfigMap"):
        size = sum(len(key) + len(text.encode()) for key, text in manifest["data"].items())
        assert size < 700_000, f"{manifest['metadata']['name']}: {size} of 1048576 bytes"


def test_no_two_templates_have_one_name() -> None:
    """Helm would take one of them, and say nothing."""
    texts = [path.read_text() for path in (CHART / "templates").rglob("*.*")]
    names = Counter(name for text in texts for name in re.findall(r'\{\{-?\s*define\s+"([^"]+)"', text))
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
