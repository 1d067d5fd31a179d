"""Values: one set of keys in values.yaml, schema, templates and documentation, and clear words for wrong ones."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import schemas
from tests.chart.common import KYVERNO, OFFSITE, VALUES, containers, leaves, nested, pod_specs, title
from tests.lab import chart
from tests.lab.chart import CHART, ROOT

HERE = Path(__file__).parent
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
EVERYTHING: dict[str, Any] = yaml.safe_load((CHART / "ci" / "everything-on-values.yaml").read_text())
WRONG = sorted((HERE / "wrong").glob("*.yaml"))
RIGHT = sorted((HERE / "right").glob("*.yaml"))

OTHER: dict[tuple[str, ...], object] = {
    ("copies",): [{"name": "x", "database": "kutt", "schedule": "@daily", "sqlConfigMap": "", "into": "look"}],
    ("nameOverride",): "nightly",
    ("schedule",): "30 * * * *",
    ("retention", "keep"): {"daily": 7},
    ("persistence", "existingClaim"): "old-backups",
    ("serviceAccount", "create"): False,
    ("networkPolicy", "enabled"): False,
    ("defaults", "target"): "prefer-standby",
    ("accessPolicy", "enabled"): False,
    ("accessPolicy", "kyverno", "enabled"): False,
    ("cronJob", "perDatabase"): True,
    ("persistence", "volumeName"): "dumps-on-the-nas",
    ("defaults", "maxBytes"): "1Gi",
    ("defaults", "secret", "uriKey"): "uri",
    ("defaults", "ownerSecret", "uriKey"): "uri",
    ("defaults", "superuserSecret", "uriKey"): "uri",
    ("accessPolicy", "operatorRights"): True,
    ("accessPolicy", "newClusterRights"): True,
    ("offsite", "timeout"): 1800,
    ("offsite", "retention", "keep"): {"daily": 9},
}
"""Another value for settings that everything-on leaves at their default, or that need others beside them."""

TOGETHER = {("extraVolumes",), ("dump", "extraVolumeMounts"), ("retention", "extraVolumeMounts")}
TOGETHER |= {("persistence", "nfs", key) for key in ("server", "path", "mountOptions")}
TOGETHER |= {("defaults", "roles"), ("offsite", "encryption", "type")}
TOGETHER |= {("offsite", "objectLock", key) for key in ("mode", "days")}
"""Settings that work only with each other."""


WATCHED = {
    "monitoring": {
        "enabled": True,
        "monitor": {"enabled": True},
        "rules": {"enabled": True},
        "dashboard": {"enabled": True},
    }
}
"""Without a watcher, no setting of it changes anything."""


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """A schema node with its reference followed, and the parts of `allOf` laid together."""
    if "$ref" in node:
        return resolved(SCHEMA["definitions"][node["$ref"].removeprefix("#/definitions/")])
    together = dict(node)
    for part in together.pop("allOf", []):
        together |= {key: value for key, value in resolved(part).items() if key not in together}
    return together


def schema_at(path: tuple[str, ...]) -> dict[str, Any]:
    """The schema of one setting."""
    node: dict[str, Any] = SCHEMA
    for key in path:
        node = resolved(resolved(node)["properties"][key])
    return resolved(node)


def closed_mappings(tree: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """All mappings of values.yaml whose keys the chart decides, with their paths."""
    found = [(path, tree)]
    for key, value in tree.items():
        if isinstance(value, dict) and "properties" in schema_at((*path, key)):
            found += closed_mappings(value, (*path, key))
    return found


def test_schema_and_values_have_the_same_keys() -> None:
    optional: dict[tuple[str, ...], set[str]] = {
        ("affinity",): {"nodeAffinity", "podAffinity", "podAntiAffinity"},
        # Helm adds "programs" for the chart in charts/.
        (): {"enabled", "programs"},
    }
    for path, tree in closed_mappings(VALUES):
        declared = set(schema_at(path)["properties"]) - optional.get(path, set())
        if "resources" in path:
            continue
        assert declared == set(tree), f"{'.'.join(path) or 'values'}: schema and values.yaml differ"


def test_the_schema_admits_no_unknown_key_and_demands_every_other() -> None:
    """A null in a values file deletes the default; where that would break a template, the schema demands the key."""
    free = {("affinity",), ("podSecurityContext",)}
    absent = {("persistence", "storageClassName")}
    for path, tree in closed_mappings(VALUES):
        node = schema_at(path)
        if path != ("global",):
            assert node["additionalProperties"] is False, path
        if path in free or "resources" in path:
            continue
        wanted = {key for key in tree if (*path, key) not in absent}
        assert set(node["required"]) == wanted, f"{'.'.join(path) or 'values'}: required differs"


def test_the_schema_is_draft_07_and_fetches_nothing() -> None:
    text = json.dumps(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert '"format"' not in text, "formats are enforced by some versions of Helm and ignored by others"
    assert all(ref.startswith("#/definitions/") for ref in re.findall(r'"\$ref": "([^"]+)"', text))
    used = set(re.findall(r'"#/definitions/([^"]+)"', text))
    assert used == set(SCHEMA["definitions"]), "a definition is missing or unused"


def test_an_entry_may_override_every_default_of_databases() -> None:
    own = {
        "name",
        "cluster",
        "database",
        "databases",
        "exclude",
        "username",
        "host",
        "standbyHost",
        "image",
        "retention",
        "schedule",
    }
    properties = set(SCHEMA["definitions"]["database"]["properties"])
    assert properties == own | set(VALUES["defaults"])
    of_databases, of_copies = (
        set(re.findall(r"^#   (\w+)  ", part, re.MULTILINE))
        for part in (CHART / "values.yaml").read_text().split("# Keys of an entry of `copies`:")
    )
    assert of_databases == own, "values.yaml documents other keys of an entry"
    assert of_copies == set(SCHEMA["definitions"]["copy"]["properties"]), "values.yaml documents other keys of a copy"


def test_every_value_that_a_template_reads_is_declared() -> None:
    for template in sorted(path for path in (CHART / "templates").rglob("*") if path.is_file()):
        for path in re.findall(r"\.Values((?:\.\w+)+)", template.read_text()):
            tree: Any = VALUES
            for key in path.strip(".").split("."):
                assert isinstance(tree, dict), f"{template.name} reads .Values{path}"
                assert key in tree, f"{template.name} reads .Values{path}, which values.yaml lacks"
                tree = tree[key]


def test_everything_on_names_every_setting() -> None:
    given = {_setting(path) for path, _ in leaves(EVERYTHING)}
    missing = {".".join(_setting(path)) for path, _ in leaves(VALUES) if _setting(path) not in given}
    assert not missing, f"ci/everything-on-values.yaml lacks {missing}"


def _setting(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path of a setting; below resources and mappings of free keys, that of the whole."""
    for index, key in enumerate(path, 1):
        if key in {"resources", "affinity"} or "properties" not in schema_at(path[:index]):
            return path[:index]
    return path


def _get(tree: Any, path: tuple[str, ...]) -> object:
    for key in path:
        tree = tree[key]
    return tree


SETTINGS = [path for path, _ in leaves(VALUES) if "resources" not in path and path not in TOGETHER]
SETTINGS += [("dump", "resources"), ("retention", "resources")]


@pytest.fixture(scope="module")
def plain() -> str:
    """The default objects, on a cluster with Kyverno."""
    return chart.render_text(api_versions=KYVERNO)


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_every_declared_value_changes_what_is_rendered(path: tuple[str, ...], plain: str) -> None:
    value = OTHER[path] if path in OTHER else _get(EVERYTHING, path)
    assert value != _get(VALUES, path), (
        f"everything-on leaves {'.'.join(path)} at its default; give another value in OTHER"
    )
    before: dict[str, Any] = {}
    if path[0] == "monitoring" and path != ("monitoring", "enabled"):
        before = {"monitoring": {"enabled": True}} if path[-1] == "enabled" else WATCHED
        before = chart.merge(before, OFFSITE) if path[-1] == "offsiteStaleAfter" else before
        plain = chart.render_text(before, api_versions=KYVERNO)
    if path[0] == "notify":
        targets = ("healthchecks", "webhook", "ntfy", "slack", "alertmanager")
        named = {target: {"secret": {"name": "check"}} for target in targets}
        before = {**WATCHED, "notify": {**named, "caSecret": {"name": "check"}}}
        plain = chart.render_text(before, api_versions=KYVERNO)
    if path[0] == "offsite":
        before = chart.merge(OFFSITE, {"offsite": {"enabled": path != ("offsite", "enabled")}})
        if path[1] == "drill":
            its = {"identitySecretName": "identity", "drill": {"enabled": path[-1] != "enabled"}}
            before = chart.merge(before, {"offsite": its})
        plain = chart.render_text(before, api_versions=KYVERNO)
    text = chart.render_text(chart.merge(before, nested(path, value)), api_versions=KYVERNO)
    assert text != plain, f"no template reads {'.'.join(path)}"


def test_further_volumes_reach_the_containers_that_mount_them() -> None:
    values: dict[str, Any] = {
        "extraVolumes": [{"name": "one", "emptyDir": {}}, {"name": "two", "secret": {"secretName": "x"}}],
        "dump": {"extraVolumeMounts": [{"name": "one", "mountPath": "/one"}]},
        "retention": {"extraVolumeMounts": [{"name": "two", "mountPath": "/two"}]},
    }
    for owner, metadata, spec in pod_specs(chart.render(values)):
        if metadata["labels"]["app.kubernetes.io/component"] not in {"backup", "test"}:
            continue
        volumes = [volume for volume in spec["volumes"] if volume["name"] in {"one", "two"}]
        assert volumes == values["extraVolumes"][: 1 if owner.startswith("Pod ") else 2], owner
        mounts = {container["name"]: str(container["volumeMounts"]) for container in containers(spec)}
        for name, text in mounts.items():
            assert ("'/one'" in text, "'/two'" in text) == (name != "retention", name == "retention"), (
                f"{owner}: {name}"
            )


ENTRY = next(entry for entry in EVERYTHING["databases"] if entry["name"] == "app_prod")
OTHER_OF_ENTRY = {
    "drillAssertions": ["SELECT true"],
    "standbyHost": "standby.example.org",
    "target": "prefer-standby",
    "onShrink": "fail",
    "excludeTables": ["audit.*"],
    "extraArgs": ["--no-owner"],
    "suspended": True,
    "databases": "*",
    "exclude": ["tmp_*"],
}
"""Another value for keys of an entry that everything-on leaves at their default."""


@pytest.mark.parametrize("key", sorted(SCHEMA["definitions"]["database"]["properties"]))
def test_every_key_of_an_entry_changes_what_is_rendered(key: str) -> None:
    base: dict[str, Any] = {"name": "app", "cluster": "app"}
    base |= {"target": "prefer-standby"} if key == "standbyHost" else {}
    base |= {"databases": "*"} if key == "exclude" else {}
    base |= {"secret": {"name": "app-superuser"}} if key == "roles" else {}
    value = OTHER_OF_ENTRY.get(key, ENTRY.get(key))
    assert value is not None, f"give {key} to the entry app_prod of everything-on"
    before, after = (chart.render_text({"databases": [entry]}) for entry in (base, base | {key: value}))
    assert before != after, f"no template reads {key} of an entry"


@pytest.mark.parametrize("key", sorted(SCHEMA["definitions"]["copy"]["properties"]))
def test_every_key_of_a_copy_changes_what_is_rendered(key: str) -> None:
    base: dict[str, Any] = {
        "name": "x",
        "database": "authelia",
        "schedule": "@daily",
        "sqlConfigMap": "",
        "cluster": "a",
    }
    (copy,) = EVERYTHING["copies"]
    value = {"database": "kutt"}.get(key, copy.get(key))
    assert value is not None, f"give {key} to the copy of everything-on"
    before, after = (chart.render_text({"copies": [entry]}) for entry in (base, base | {key: value}))
    assert before != after, f"no template reads {key} of a copy"


def test_every_value_has_its_sentence_and_its_example() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        match = re.fullmatch(r"( *)(\w+):(.*)", line)
        if match is None or _below_free_form(lines, number):
            continue
        comment: list[str] = []
        above = number - 1
        while lines[above].strip().startswith("#"):
            comment.insert(0, re.sub(r"^ *# (-- )?", "", lines[above]).strip())
            above -= 1
        text = " ".join(comment)
        assert re.match(r"[A-Z].*[.:]", text), f"values.yaml:{number + 1}: {match[2]} has no sentence above it"
        if match[3]:
            assert "For example" in text, f"values.yaml:{number + 1}: {match[2]} has no example above it"


def _below_free_form(lines: list[str], number: int) -> bool:
    """Whether a line belongs to the content of a value whose inner keys are not the chart's: a list, or resources."""
    indent = len(lines[number]) - len(lines[number].lstrip())
    for line in reversed(lines[:number]):
        outer = len(line) - len(line.lstrip())
        if line.strip() and not line.strip().startswith("#") and outer < indent:
            if line.strip().startswith("- ") or line.strip() in {"resources:", "requests:", "limits:"}:
                return True
            indent = outer
    return False


def test_the_readme_is_what_helm_docs_makes_of_values_and_template() -> None:
    done = subprocess.run([ROOT / "tools" / "chart-readme", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_lists_every_value_and_every_key_of_an_entry() -> None:
    text = (CHART / "README.md").read_text()
    listed = re.findall(r"^\| `([^`]+)` \| `.*` \| .+ \|$", text, re.MULTILINE)
    wanted = dict.fromkeys(".".join(_setting(path)) for path, _ in leaves(VALUES))
    assert listed == list(wanted), "a value without a comment of the form `# -- Sentence`, or an object with one?"
    keys = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", text, re.MULTILINE)
    assert set(keys) | set(VALUES["defaults"]) == set(SCHEMA["definitions"]["database"]["properties"])


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), CHART / "README.md"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_value_that_a_page_names_exists(path: Path) -> None:
    for name in re.findall(r"`((?:\w+\.)+\w+)(?:: [^`]*)?`", path.read_text()):
        tree: Any = VALUES
        a_value = name.split(".")[0] in VALUES and not name.endswith((".sh", ".conf"))
        for key in name.split(".") if a_value else []:
            assert isinstance(tree, dict), f"{path.name} names the value {name}"
            assert key in tree, f"{path.name} names the value {name}, which there is not"
            tree = tree[key]


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_wrong_values_fail_with_a_clear_line(path: Path) -> None:
    """Each file of the folder `wrong` begins with the lines that Helm's message must hold."""
    text = path.read_text()
    expected = re.findall(r"^# expected: (.+)$", text, re.MULTILINE)
    assert expected, f"{path.name} does not say what is expected"
    with pytest.raises(chart.ChartError) as caught:
        chart.render(path)
    for line in expected:
        assert line in str(caught.value), f"{path.name}: Helm said\n{caught.value}"


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
@pytest.mark.sample(16)
def test_near_misses_pass(path: Path) -> None:
    for manifest in chart.render(path):
        problem = schemas.problem_in(manifest, "1.36")
        assert not problem, f"{title(manifest)}: {problem}"


def test_all_that_cannot_work_is_said_at_once() -> None:
    values = {
        "fullnameOverride": "x" * 54,
        "activeDeadlineSeconds": 7200,
        "databases": [
            {"name": "app", "cluster": "app"},
            {"name": "app", "cluster": "other", "extraArgs": ["--format=p"]},
        ],
        "retention": {"tiers": [{"name": "Daily", "every": "24h", "keep": 5, "until": "7d"}]},
    }
    with pytest.raises(chart.ChartError) as caught:
        chart.render(values)
    assert str(caught.value).count("\n  - ") == 5, str(caught.value)


def test_chart_and_dump_script_allow_the_same_arguments() -> None:
    """dump.sh checks again what the chart has let through; the two lists must be one."""
    script = (ROOT / "scripts" / "dump.sh").read_text()
    body = re.search(r"^allowed_extra_arg\(\) \{\n(.*?)^\}", script, re.MULTILINE | re.DOTALL)
    assert body, "dump.sh has no allowed_extra_arg any more"
    allowing = "\n".join(line for line in body[1].splitlines() if "return 1" not in line)
    in_script = set(re.findall(r"--[a-z-]+(?:=\?\*)?", allowing))
    helper = (CHART / "templates" / "_validate.tpl").read_text()
    bare = re.search(r"\$bare := list(.*?)-}}", helper, re.DOTALL)
    valued = re.search(r"\$valued := list(.*?)-}}", helper, re.DOTALL)
    assert bare
    assert valued
    in_chart = set(re.findall(r"--[a-z-]+", bare[1])) | {f"{name}=?*" for name in re.findall(r"--[a-z-]+", valued[1])}
    assert in_chart == in_script
