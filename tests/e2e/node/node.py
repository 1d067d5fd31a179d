"""The node: a whole Kubernetes of one machine, owned by one object."""

import contextlib
import logging
import shutil
import socket
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.e2e.node import addons, components, images, machine
from tests.e2e.node.cluster import Cluster, wait_until
from tests.e2e.node.components import Component, Layout
from tests.e2e.node.errors import NodeError
from tests.e2e.node.paths import cache
from tests.e2e.node.pki import write_private
from tests.e2e.node.sandbox import Sandbox

_log = logging.getLogger(__name__)
_POLICY_CHAIN = "KUBE-ROUTER-FORWARD"


class Node(Cluster):
    """A single-node Kubernetes with DNS, NetworkPolicy, storage, CloudNativePG and Kyverno.

    Everything lives in namespaces of its own, with no way out, and ends with this process, however that ends. Use it as
    a context manager, or call `start` and `stop`.

    Attributes:
        components: the running parts by name, such as `kubelet`, each of which can be killed and started again.
        timings: seconds from the start at which each step was done, for `docs` and benchmarks.
    """

    owned = True

    def __init__(self, *, with_kyverno: bool = True) -> None:
        super().__init__(Path())
        self.components: dict[str, Component] = {}
        self.timings: dict[str, float] = {}
        self._cnpg = images.wanted_cnpg()
        self._with_kyverno = with_kyverno
        self._sandbox = Sandbox()
        self._proxy: Component | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Build what is not in the cache, start everything, and return when all of it is ready.

        A node that does not come up is started once more: hundreds of tests hang on it, and two nodes that start at
        a time on two cores may miss a deadline.

        Raises:
            NodeError: something is missing, or the second start failed too; nothing is left running then.
        """
        machine.require()
        archives = images.build(images.of_node(self._cnpg, with_kyverno=self._with_kyverno))
        addons.prepare(self._cnpg, with_kyverno=self._with_kyverno)
        try:
            self._start_once(dict(archives))
        except NodeError as error:
            _log.warning("%s; starting it once more", error)
            self._sandbox = Sandbox()
            self._start_once(archives)

    def _start_once(self, archives: dict[str, Path]) -> None:
        self._began = time.monotonic()
        self._sandbox.start()
        try:
            self._start(archives)
        except NodeError as error:
            ended = [part.name for part in self.components.values() if not part.running]
            folder = self.collect(cache("failures") / f"start-{self._sandbox.name}")
            with contextlib.suppress(NodeError):
                self.stop()
            also = f"; ended on their own: {', '.join(ended)}" if ended else ""
            raise NodeError(f"the node did not start: {error}{also}; its logs are in {folder}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything and remove every trace of it.

        Raises:
            NodeError: something is left; the message names it.
        """
        try:
            self._sandbox.stop()
        finally:
            for part in (*self.components.values(), *([self._proxy] if self._proxy else [])):
                part.reap()
            self.components.clear()
        self.__dict__.pop("client", None)

    def load_image(self, archive: Path) -> None:
        """Import an image archive, as `docker save` or `buildah push docker-archive:` writes it."""
        self._images("import", "--local", "--snapshotter", "overlayfs", str(archive))

    def tag_image(self, name: str, other: str) -> None:
        """Give an image of the node another name, in full: registry, path and tag."""
        self._images("tag", "--force", name, other)

    def _images(self, *arguments: str) -> None:
        ctr = str(self._layout.folders["containerd"] / "ctr")
        self.run(ctr, "--address", components.CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", *arguments)

    def run(self, *command: str, seconds: float = 300) -> str:
        """Run a command on the node as root, inside its namespaces, and return its standard output.

        Raises:
            NodeError: it failed or took too long; the message holds its standard error.
        """
        try:
            done = subprocess.run(
                self._sandbox.enter(*command), env=self._layout.component("run").environment, cwd="/",
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NodeError(f"{' '.join(command)} on the node took longer than {seconds:g} s") from None
        if done.returncode:
            raise NodeError(f"{' '.join(command)} on the node failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the node, as root; it needs absolute paths."""
        return self._sandbox.enter(*command)

    @property
    def pid(self) -> int:
        """Process id, outside, of the first process of the node's namespaces; the node lives exactly as long."""
        return self._sandbox.pid

    @property
    def state(self) -> Path:
        """Folder of the node's configuration and logs; gone after `stop`."""
        return self._sandbox.state

    def logs(self) -> dict[str, str]:
        """Return the whole log of each part of the node by its name."""
        return {path.stem: path.read_text(errors="replace") for path in (self.state / "logs").glob("*.log")}

    def collect(self, folder: Path) -> Path:
        """Like `Cluster.collect`, and the logs of the node's own parts below `node/`."""
        shutil.copytree(self.state / "logs", folder / "node", dirs_exist_ok=True)
        if self.kubeconfig.is_file():
            super().collect(folder)
        return folder

    def _start(self, archives: dict[str, Path]) -> None:
        self._done("namespaces")
        self._layout = Layout(self._sandbox)
        with ThreadPoolExecutor(max_workers=4) as pool:
            self._launch(components.containerd(self._layout), components.etcd(self._layout))
            self._launch(components.apiserver(self._layout))
            self._open_door()
            first = [self._import(pool, archives.pop(image.name)) for image in (images.PAUSE, images.COREDNS)]
            self.wait_ready()
            self._launch(
                components.controller_manager(self._layout),
                components.scheduler(self._layout),
                components.kubelet(self._layout),
                components.kube_proxy(self._layout),
                components.provisioner(self._layout),
            )
            # The operators' images first, the large ones of databases last.
            order = sorted(archives, key=lambda name: archives[name].stat().st_size)
            imports = [self._import(pool, archives[name]) for name in order]
            for future in first:
                future.result()
            addons.install(self, self._cnpg, with_kyverno=self._with_kyverno)
            self._done("add-ons applied")
            # It ends at once where it does not find its node.
            wait_until("the node has its range of pod addresses", self._node_has_range, 60)
            self._launch(components.kube_router(self._layout))
            for future in imports:
                future.result()
            self._done("images imported")
        wait_until("the node is ready", self._node_ready, 120)
        wait_until("NetworkPolicy is enforced", lambda: bool(self.run("/usr/sbin/iptables", "-S", _POLICY_CHAIN)), 60)
        self._done("node ready")
        addons.wait(self, with_kyverno=self._with_kyverno)
        self._done("add-ons ready")
        for part in self.components.values():
            if not part.running:
                raise NodeError(f"{part.name} has ended: {part.tail(600)}")

    def _done(self, step: str) -> None:
        self.timings[step] = round(time.monotonic() - self._began, 1)

    def _launch(self, *parts: Component) -> None:
        for part in parts:
            self.components[part.name] = part
            part.start()

    def _import(self, pool: ThreadPoolExecutor, archive: Path) -> Future[None]:
        def work() -> None:
            wait_until("containerd answers", self._containerd_answers, 60, every=0.1)
            self.load_image(archive)

        return pool.submit(work)

    def _containerd_answers(self) -> bool:
        ctr = str(self._layout.folders["containerd"] / "ctr")
        return bool(self.run(ctr, "--address", components.CONTAINERD_SOCKET, "--connect-timeout", "1s", "version"))

    def _open_door(self) -> None:
        """Listen on a loopback port outside, and serve it from inside."""
        self._kubectl = self._layout.binary("kubernetes", "kubectl")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            self._proxy = components.proxy(self._layout, listening.fileno())
            self._proxy.start(listening.fileno())
        text = self._layout.authority.kubeconfig("admin", f"https://127.0.0.1:{port}")
        self.kubeconfig = write_private(self.state / "kubeconfig", text)

    def wait_ready(self, seconds: float = 120) -> None:
        """Wait until the API server says that it is ready, as after it was killed and started again."""
        wait_until("the API server is ready", lambda: self.kubectl("get", "--raw", "/readyz") == "ok", seconds)

    def _node_has_range(self) -> bool:
        return "podCIDR" in self.get("node", components.NODE_NAME)["spec"]

    def _node_ready(self) -> bool:
        conditions = self.get("node", components.NODE_NAME)["status"].get("conditions", ())
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
