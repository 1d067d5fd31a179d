"""The local pod: what is rendered is what runs, and what is not understood is refused."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.pod import Endpoint, LocalPod, PodEnded, PodError, python_image

SYSTEM = ("/usr/bin", "/bin")

# Shows what a container sees: its environment and files, and writes where a pod may.
PROGRAM = """
env | sort
for f in "$CONFIG"/*.conf "$SCRIPTS"/scripts/* "$SECRETS"/*/*; do
  echo "$f: $(stat -L -c %a "$f"): $(tr '\\n' ' ' <"$f")"
done
echo saved >"$ROOT/file"
"""


def manifests() -> list[dict[str, Any]]:
    def container(name: str, *command: str) -> dict[str, Any]:
        return {
            "name": name,
            "image": "shell:1",
            "command": list(command),
            "env": [
                {"name": "ROOT", "value": "/data"},
                {"name": "CONFIG", "value": "/etc/app"},
                {"name": "SCRIPTS", "value": "/opt/app"},
                {"name": "SECRETS", "value": "/etc/app-secrets"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "volumeMounts": [
                {"name": "claim", "mountPath": "/data"},
                {"name": "config", "mountPath": "/etc/app", "readOnly": True},
                {"name": "scripts", "mountPath": "/opt/app", "readOnly": True},
                {"name": "secrets", "mountPath": "/etc/app-secrets", "readOnly": True},
                {"name": "scratch", "mountPath": "/scratch"},
            ],
        }

    secret = {"name": "app", "optional": True, "items": [{"key": "password", "path": "app/password"}]}
    spec = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "volumes": [
            {"name": "claim", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "config", "configMap": {"name": "config"}},
            {"name": "scripts", "configMap": {"name": "s", "items": [{"key": "a.sh", "path": "scripts/a.sh"}]}},
            {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": [{"secret": secret}]}},
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
        "initContainers": [container("first", "sh", "-c", PROGRAM)],
        "containers": [container("last", "sh", "-c", "cat $ROOT/file; exit 3")],
    }
    cronjob = {"jobTemplate": {"spec": {"template": {"spec": spec}}}}
    conf = "database=app\nhost=app-rw.default.svc\nstandby_host=\nport=5432\nextra_arg=--x=host=app-rw.default.svc\n"
    return [
        {"kind": "CronJob", "metadata": {"name": "job", "namespace": "default"}, "spec": cronjob},
        {"kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"app.conf": conf}},
        {"kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"a.sh": "echo a\n", "b.sh": "echo b\n"}},
    ]


def pod_spec(rendered: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = rendered[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., PodEnded]:
    (tmp_path / "claim").mkdir()

    def run(rendered: list[dict[str, Any]], **changed: Any) -> PodEnded:
        settings: dict[str, Any] = {
            "manifests": rendered,
            "cronjob": "job",
            "folder": tmp_path / "pods",
            "claims": {"claim": tmp_path / "claim"},
            "secrets": {"app": {"password": "p", "other": "not mounted"}},
            "images": {"shell:1": SYSTEM},
            "hosts": {"app-rw.default.svc": Endpoint("localhost", 4711)},
        }
        return LocalPod(**settings | changed).run()

    return run


def test_containers_see_what_was_rendered_and_nothing_else(
    run: Callable[..., PodEnded], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OURS", "must not be seen")
    ended = run(manifests())
    log = ended.containers["first"].log
    assert "OURS" not in log
    assert f"ROOT={tmp_path}/claim\n" in log
    assert "POD=job-1\n" in log
    assert "database=app host=localhost standby_host= port=4711 extra_arg=--x=host=app-rw.default.svc" in log
    assert "scripts/a.sh: 644: echo a" in log
    assert "b.sh" not in log, "a key that is not among the items was mounted"
    assert "app/password: 440: p" in log
    assert "not mounted" not in log
    assert (tmp_path / "claim" / "file").read_text() == "saved\n"


def test_exit_code_and_scratch_of_a_run_end_with_it(run: Callable[..., PodEnded], tmp_path: Path) -> None:
    ended = run(manifests())
    assert ended.exit_code == 3
    assert list((tmp_path / "pods").iterdir()) == [], "a pod's volumes outlived it"


def test_the_container_does_not_run_after_a_failed_init_container(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    pod_spec(rendered)["initContainers"][0]["command"] = ["sh", "-c", "exit 7"]
    ended = run(rendered)
    assert list(ended.containers) == ["first"]
    assert ended.exit_code == 7


def test_a_missing_optional_secret_is_no_reason_not_to_start(run: Callable[..., PodEnded]) -> None:
    assert "password: 440" not in run(manifests(), secrets={}).log


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
        (lambda spec: spec.update(restartPolicy="Always"), "restartPolicy"),
        (lambda spec: spec.update(enableServiceLinks=True), "enableServiceLinks"),
        (lambda spec: spec["containers"][0].update(livenessProbe={}), "livenessProbe"),
        (lambda spec: spec["containers"][0].update(envFrom=[]), "envFrom"),
        (lambda spec: spec["containers"][0].update(image="other:1"), "other:1"),
        (lambda spec: spec["containers"][0].update(command=["no-such-program"]), "no-such-program"),
        (lambda spec: spec["containers"][0]["env"].append({"name": "A", "value": "$(POD)"}), r"\$\(POD\)"),
        (lambda spec: spec["containers"][0]["volumeMounts"][0].update(subPath="x"), "subPath"),
        (lambda spec: spec["containers"][0]["volumeMounts"][0].update(name="none"), "none"),
        (lambda spec: spec["containers"].append(copy.deepcopy(spec["containers"][0])), "2 containers"),
        (lambda spec: spec["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "volume h"),
        (lambda spec: spec["volumes"][1]["configMap"].update(optional=True), "optional"),
        (lambda spec: spec["volumes"][2]["configMap"]["items"][0].update(key="c.sh"), "c.sh"),
        (lambda spec: spec["volumes"][0]["persistentVolumeClaim"].update(claimName="lost"), "claim lost"),
    ],
)
def test_what_is_not_understood_is_refused(
    run: Callable[..., PodEnded], change: Callable[[dict[str, Any]], None], named: str
) -> None:
    rendered = manifests()
    change(pod_spec(rendered))
    with pytest.raises(PodError, match=named):
        run(rendered)


def test_a_mandatory_secret_that_is_missing_keeps_the_pod_from_starting(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    del pod_spec(rendered)["volumes"][3]["projected"]["sources"][0]["secret"]["optional"]
    with pytest.raises(PodError, match="secret app does not exist"):
        run(rendered, secrets={})


def test_a_host_that_nobody_mapped_is_refused(run: Callable[..., PodEnded]) -> None:
    with pytest.raises(PodError, match=r"app-rw\.default\.svc"):
        run(manifests(), hosts={})


def test_a_scratch_volume_beyond_its_limit_is_refused(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    pod_spec(rendered)["initContainers"][0]["command"] = ["sh", "-c", "head -c 2000000 /dev/zero >$SCRATCH/f"]
    pod_spec(rendered)["initContainers"][0]["env"].append({"name": "SCRATCH", "value": "/scratch"})
    with pytest.raises(PodError, match="volume scratch"):
        run(rendered)


def test_a_pod_whose_volumes_may_exceed_its_limit_is_refused(run: Callable[..., PodEnded]) -> None:
    """A container without a limit adds nothing to the pod's, and what its neighbour may take is then all there is."""
    rendered = manifests()
    spec = pod_spec(rendered)
    spec["volumes"][4]["emptyDir"] = {"sizeLimit": "2Mi"}
    spec["containers"][0]["resources"] = {"limits": {"ephemeral-storage": "1Mi"}}
    with pytest.raises(PodError, match="2097152 bytes of disk, the pod's limit is 1048576"):
        run(rendered)
    spec["initContainers"][0]["resources"] = {"limits": {"ephemeral-storage": "2Mi"}}
    assert run(rendered).exit_code == 3
    spec["volumes"][4]["emptyDir"]["medium"] = "Memory"
    del spec["initContainers"][0]["resources"]
    assert run(rendered).exit_code == 3


def test_a_pod_that_takes_more_disk_than_its_limit_is_evicted(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    spec = pod_spec(rendered)
    spec["volumes"][4]["emptyDir"] = {}
    spec["containers"][0]["resources"] = {"limits": {"ephemeral-storage": "1Mi"}}
    spec["initContainers"][0]["command"] = ["sh", "-c", "head -c 2000000 /dev/zero >$SCRATCH/f"]
    spec["initContainers"][0]["env"].append({"name": "SCRATCH", "value": "/scratch"})
    with pytest.raises(PodError, match="holds 2000000 bytes on disk"):
        run(rendered)


def test_the_deadline_ends_a_pod(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    pod_spec(rendered)["activeDeadlineSeconds"] = 1
    pod_spec(rendered)["initContainers"][0]["command"] = ["sleep", "300"]
    began = time.monotonic()
    assert run(rendered).exit_code == 128 + 15
    assert time.monotonic() - began < 100


def test_what_a_container_leaves_running_ends_with_it(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    pod_spec(rendered)["initContainers"][0]["command"] = ["sh", "-c", "sleep 300 & exit 0"]
    began = time.monotonic()
    run(rendered)
    assert time.monotonic() - began < 100


def test_the_termination_message_is_the_file_or_else_the_end_of_the_log(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    last = pod_spec(rendered)["containers"][0]
    last["terminationMessagePolicy"] = "FallbackToLogsOnError"
    last["command"] = ["sh", "-c", "echo in the log; exit 1"]
    assert run(rendered).message == "in the log\n"
    last["args"] = ["ignored", "/dev/termination-log"]
    last["command"][2] = 'echo in the file >"$1"; echo in the log; exit 1'
    assert run(rendered).message == "in the file\n"


def test_the_image_of_python_has_no_installed_packages(run: Callable[..., PodEnded], tmp_path: Path) -> None:
    rendered = manifests()
    program = "import importlib.util as u; print(u.find_spec('json') is not None, u.find_spec('pytest'))"
    pod_spec(rendered)["containers"][0] |= {"image": "python:1", "command": ["python3", "-c", program]}
    images = {"shell:1": SYSTEM, "python:1": (python_image(tmp_path / "python"),)}
    assert run(rendered, images=images).containers["last"].log == "True None\n"


def test_a_sidecar_runs_beside_the_containers_and_ends_after_them(run: Callable[..., PodEnded], tmp_path: Path) -> None:
    rendered = manifests()
    first = pod_spec(rendered)["initContainers"][0]
    first["command"] = [
        "sh",
        "-c",
        "trap 'echo ended >$ROOT/end; exit 0' TERM; echo >$ROOT/up; while :; do sleep 0.1; done",
    ]
    first["restartPolicy"] = "Always"
    wait = "until [ -e $ROOT/up ]; do sleep 0.1; done; [ ! -e $ROOT/end ] && exit 5"
    pod_spec(rendered)["containers"][0]["command"] = ["sh", "-c", wait]
    ended = run(rendered)
    assert (ended.exit_code, list(ended.containers)) == (5, ["last"])
    assert (tmp_path / "claim" / "end").exists()


def test_a_sidecar_that_ends_is_not_passed_over(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    pod_spec(rendered)["initContainers"][0] |= {"command": ["sh", "-c", "exit 4"], "restartPolicy": "Always"}
    pod_spec(rendered)["containers"][0]["command"] = ["sleep", "1"]
    with pytest.raises(PodError, match="sidecar first ended with 4"):
        run(rendered)


def test_variables_come_from_secrets_and_go_into_arguments(run: Callable[..., PodEnded]) -> None:
    rendered = manifests()
    last = pod_spec(rendered)["containers"][0]
    last["env"] += [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "app", "key": "password"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "app", "key": "none", "optional": True}}},
    ]
    last["command"] = ["sh", "-c", 'echo "$0 ${NONE-unset}"', "key=$(KEY)"]
    assert run(rendered).containers["last"].log == "key=p unset\n"
    last["env"][-1]["valueFrom"]["secretKeyRef"]["optional"] = False
    with pytest.raises(PodError, match="there is no key none of a secret app"):
        run(rendered)
