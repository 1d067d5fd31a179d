"""Make a `local` volume of the asked size for each claim of our storage classes, and remove it with its claim.

Runs inside the node as a script of its own. Every volume is a file system of its own on a loop device, so that it can
run full; the kubelet treats it as any `local` volume and honours `fsGroup`. A class with `WaitForFirstConsumer` gets
its volume when the scheduler has chosen the node, one with `Immediate` at once, as of any external provisioner.
With the parameter `locks: none` of a class, `flock` fails on its volumes, as on an NFS export without a lock service.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from kubernetes.utils.quantity import parse_quantity

PROVISIONER = "loop.local"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


class Provisioner:
    """Volumes of one node, below one folder."""

    def __init__(self, api: client.ApiClient, node: str, folder: Path) -> None:
        self._core = client.CoreV1Api(api)
        self._storage = client.StorageV1Api(api)
        self._node = node
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def claim_changed(self, claim: Any) -> None:
        """Make the volume of a claim that waits for one."""
        name = claim.spec.storage_class_name
        if claim.status.phase != "Pending" or claim.spec.volume_name or not name:
            return
        try:
            storage_class = self._storage.read_storage_class(name)
        except client.ApiException as error:
            if error.status == 404:
                return
            raise
        waits = storage_class.volume_binding_mode == "WaitForFirstConsumer"
        if storage_class.provisioner != PROVISIONER or (
            waits and not (claim.metadata.annotations or {}).get(_SELECTED_NODE)
        ):
            return
        volume = f"pvc-{claim.metadata.uid}"
        size = claim.spec.resources.requests["storage"]
        path = self._make(volume, int(parse_quantity(size)))
        if (storage_class.parameters or {}).get("locks") == "none":
            path = self._without_locks(path)
        with contextlib.suppress(client.ApiException):  # it is there already
            self._core.create_persistent_volume(self._describe(volume, size, path, claim, storage_class))

    def volume_changed(self, volume: Any) -> None:
        """Remove a volume whose claim is gone, unless it is to be retained."""
        annotations = volume.metadata.annotations or {}
        ours = annotations.get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        if not ours or volume.status.phase != "Released" or volume.spec.persistent_volume_reclaim_policy != "Delete":
            return
        if self._remove(volume.metadata.name):
            with contextlib.suppress(client.ApiException):
                self._core.delete_persistent_volume(volume.metadata.name)

    def _make(self, name: str, size: int) -> Path:
        path, image = self._folder / name, self._folder / f"{name}.img"
        if not path.is_mount():
            path.mkdir(exist_ok=True)
            with image.open("wb") as file:
                file.truncate(size)
            _run("mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", "-E", "nodiscard", str(image))
            _run("mount", "-o", "loop,nobarrier,noatime", str(image), str(path))
            image.unlink()
        return path

    def _without_locks(self, below: Path) -> Path:
        path = below.with_suffix(".lockless")
        if not path.is_mount():
            path.mkdir(exist_ok=True)
            command = [sys.executable, str(Path(__file__).with_name("lockless.py")), str(below), str(path)]
            # It ends with its mount, and at the latest with the node.
            subprocess.Popen(command, stdin=subprocess.DEVNULL)
            deadline = time.monotonic() + 30
            while not path.is_mount():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} was not mounted")
                time.sleep(0.1)
        return path

    def _remove(self, name: str) -> bool:
        if not self._unmounted(self._folder / f"{name}.lockless"):
            return False
        return self._unmounted(self._folder / name)

    def _unmounted(self, path: Path) -> bool:
        if path.is_mount() and subprocess.run(["umount", str(path)], check=False).returncode:
            return False  # a pod still ends; its claim's event comes again
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()
        return True

    def _describe(self, name: str, size: str, path: Path, claim: Any, storage_class: Any) -> client.V1PersistentVolume:
        return client.V1PersistentVolume(
            metadata=client.V1ObjectMeta(
                name=name,
                annotations={"pv.kubernetes.io/provisioned-by": PROVISIONER},
            ),
            spec=client.V1PersistentVolumeSpec(
                capacity={"storage": size},
                access_modes=claim.spec.access_modes,
                persistent_volume_reclaim_policy=storage_class.reclaim_policy,
                storage_class_name=claim.spec.storage_class_name,
                volume_mode="Filesystem",
                local=client.V1LocalVolumeSource(path=str(path)),
                claim_ref=client.V1ObjectReference(
                    api_version="v1",
                    kind="PersistentVolumeClaim",
                    namespace=claim.metadata.namespace,
                    name=claim.metadata.name,
                    uid=claim.metadata.uid,
                ),
                node_affinity=client.V1VolumeNodeAffinity(
                    required=client.V1NodeSelector(
                        node_selector_terms=[
                            client.V1NodeSelectorTerm(
                                match_expressions=[
                                    client.V1NodeSelectorRequirement(
                                        key="kubernetes.io/hostname", operator="In", values=[self._node]
                                    )
                                ]
                            )
                        ]
                    )
                ),
            ),
        )

    def watch_claims(self) -> None:
        """Follow claims for as long as the API server sends events, at most half a minute."""
        claims = self._core.list_persistent_volume_claim_for_all_namespaces
        for event in watch.Watch().stream(claims, timeout_seconds=30):
            if event["type"] in ("ADDED", "MODIFIED"):
                self.claim_changed(event["object"])

    def watch_volumes(self) -> None:
        """Follow volumes, for a few seconds: then a volume that was still in use is looked at again."""
        for event in watch.Watch().stream(self._core.list_persistent_volume, timeout_seconds=5):
            if event["type"] in ("ADDED", "MODIFIED"):
                self.volume_changed(event["object"])


def _for_ever(follow: Callable[[], None]) -> None:
    while True:
        try:
            follow()
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(0.5)


def main() -> None:
    """Serve until killed; whatever goes wrong is logged and tried again."""
    kubeconfig, node, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    provisioner = Provisioner(config.new_client_from_config(kubeconfig), node, folder)
    threading.Thread(target=_for_ever, args=[provisioner.watch_volumes], daemon=True).start()
    _for_ever(provisioner.watch_claims)


if __name__ == "__main__":
    main()
