"""The only module that calls the API server; answers are plain JSON, refusals are errors of one line.

Exec reads its frames one by one: the client's own reader keeps everything that has arrived, which for an archive may be
more than this machine's memory.
"""

import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
import websocket
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.stream import stream

from kubectl_cnpg_backup.cluster.login import acting_as, entries_of, inside_of_a_cluster, own_namespace
from kubectl_cnpg_backup.cluster.refusals import explained, unreachable
from kubectl_cnpg_backup.errors import ForbiddenError, NotFoundError, PluginError, UsageError
from kubectl_cnpg_backup.interrupt import held
from kubectl_cnpg_backup.model.suspension import MANAGER

_TIMEOUT = (10, 60)
"""Seconds to connect, and to wait for an answer."""
_FOLLOW_TIMEOUT = (10, 600)
"""The same for a log that is followed; one that is silent for longer is requested again."""
_EXEC_SILENCE = 900
"""Seconds without a byte after which an exec counts as lost; reading a large archive prints nothing for a long time."""
_CHANNEL_STDOUT, _CHANNEL_STDERR, _CHANNEL_ERROR = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Executed:
    """The exit code of a command in a container, and what it printed."""

    code: int
    output: bytes
    errors: str


_METADATA_ONLY = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}


class Cluster:
    """A namespace of a cluster, as the kubeconfig's user sees it.

    Attributes:
        namespace: The namespace of all requests that need one.
        context: Name of the kubeconfig's context; empty inside of a cluster.
    """

    def __init__(self, api: client.ApiClient, namespace: str, context: str) -> None:
        self.namespace = namespace
        self.context = context
        self._api = api
        self._core = client.CoreV1Api(api)
        self._batch = client.BatchV1Api(api)
        self._network = client.NetworkingV1Api(api)
        self._admission = client.AdmissionregistrationV1Api(api)
        self._authorization = client.AuthorizationV1Api(api)
        self._rbac = client.RbacAuthorizationV1Api(api)
        self._custom = client.CustomObjectsApi(api)

    @classmethod
    def connect(
        cls,
        kubeconfig: str | None,
        context: str | None,
        namespace: str | None,
        impersonated: Mapping[str, Any] | None = None,
    ) -> "Cluster":
        """Return the cluster and namespace that these options name; each has the same default as in kubectl.

        Args:
            kubeconfig: Path of the kubeconfig.
            context: Name of a context in it.
            namespace: The namespace.
            impersonated: Whom to act as: what replaces `as`, `as-groups` and `as-uid` of the kubeconfig's user.

        Raises:
            UsageError: When the configuration does not exist or cannot be used.
        """
        own_user = {key: value for key, value in (impersonated or {}).items() if value}
        if kubeconfig is None and context is None and (inside := inside_of_a_cluster()) is not None:
            return cls(acting_as(inside, own_user), namespace or own_namespace(), "")
        try:
            contexts, active = config.list_kube_config_contexts(kubeconfig)
            chosen = active if context is None else next((one for one in contexts if one["name"] == context), None)
            if chosen is None:
                names = ", ".join(one["name"] for one in contexts)
                raise UsageError(f"the kubeconfig has no context {context!r}", f"available: {names}")
            settings = client.Configuration()
            config.load_kube_config(kubeconfig, context=chosen["name"], client_configuration=settings)
            names_of = {kind: str(chosen["context"].get(kind) or "") for kind in ("cluster", "user")}
            entries = entries_of(kubeconfig, names_of)
            # The library does not read it.
            settings.proxy = entries["cluster"].get("proxy-url") or settings.proxy
            api = client.ApiClient(settings)
        except (ConfigException, OSError, yaml.YAMLError, TypeError, KeyError) as error:
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(
                f"the kubeconfig cannot be used: {what}", "give one with --kubeconfig or KUBECONFIG"
            ) from None
        own = str(chosen["context"].get("namespace") or "default")
        return cls(acting_as(api, {**entries["user"], **own_user}), namespace or own, str(chosen["name"]))

    def _ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            answer = method(*arguments, **options, _request_timeout=_TIMEOUT)
        except (ApiException, AttributeError) as error:
            raise explained(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(error) from None
        return self._api.sanitize_for_serialization(answer)

    def _make(self, method: Callable[..., Any], *arguments: Any, dry_run: bool) -> Any:
        """Ask for something to be made. A request given up half-way could still make it after it was taken back."""
        with held():
            return self._ask(method, *arguments, **_dry_run(dry_run))

    def _list(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._ask(method, *arguments, **options)["items"]
        return items

    def cronjobs(self, selector: str) -> list[dict[str, Any]]:
        """Return the CronJobs that a label selector finds."""
        return self._list(self._batch.list_namespaced_cron_job, self.namespace, label_selector=selector)

    def cronjobs_everywhere(self, selector: str) -> list[dict[str, Any]]:
        """Return the CronJobs of all namespaces that a label selector finds."""
        return self._list(self._batch.list_cron_job_for_all_namespaces, label_selector=selector)

    def in_namespace(self, namespace: str) -> "Cluster":
        """Return the same cluster, seen by the same user, with another namespace."""
        return Cluster(self._api, namespace, self.context)

    def jobs(self, selector: str) -> list[dict[str, Any]]:
        """Return the Jobs that a label selector finds."""
        return self._list(self._batch.list_namespaced_job, self.namespace, label_selector=selector)

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods that a label selector finds."""
        return self._list(self._core.list_namespaced_pod, self.namespace, label_selector=selector)

    def job(self, name: str) -> dict[str, Any]:
        """Return a Job."""
        return dict(self._ask(self._batch.read_namespaced_job, name, self.namespace))

    def config_map(self, name: str) -> dict[str, Any]:
        """Return a ConfigMap."""
        return dict(self._ask(self._core.read_namespaced_config_map, name, self.namespace))

    def patch_config_map(self, name: str, data: Mapping[str, str]) -> None:
        """Change keys of a ConfigMap; the others stay."""
        form = {"field_manager": MANAGER, "_content_type": "application/merge-patch+json"}
        self._ask(self._core.patch_namespaced_config_map, name, self.namespace, {"data": dict(data)}, **form)

    def claim(self, name: str) -> dict[str, Any]:
        """Return a PersistentVolumeClaim."""
        return dict(self._ask(self._core.read_namespaced_persistent_volume_claim, name, self.namespace))

    def service_account(self, name: str) -> dict[str, Any]:
        """Return a ServiceAccount."""
        return dict(self._ask(self._core.read_namespaced_service_account, name, self.namespace))

    def own_namespace(self) -> dict[str, Any]:
        """Return the namespace itself."""
        return dict(self._ask(self._core.read_namespace, self.namespace))

    def secret(self, name: str) -> dict[str, Any]:
        """Return a Secret."""
        return dict(self._ask(self._core.read_namespaced_secret, name, self.namespace))

    def has_secret(self, name: str) -> bool:
        """Tell whether a Secret exists; its content is not asked for."""
        try:
            # Not by the library's own method, which always asks for all of an object.
            self._ask(
                self._api.call_api,
                "/api/v1/namespaces/{namespace}/secrets/{name}",
                "GET",
                {"namespace": self.namespace, "name": name},
                [],
                dict(_METADATA_ONLY),
                response_types_map={200: "object"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
            )
        except NotFoundError:
            return False
        return True

    def network_policies(self) -> list[dict[str, Any]]:
        """Return the namespace's NetworkPolicies."""
        return self._list(self._network.list_namespaced_network_policy, self.namespace)

    def role_bindings(self) -> list[dict[str, Any]]:
        """Return the namespace's RoleBindings."""
        return self._list(self._rbac.list_namespaced_role_binding, self.namespace)

    def role(self, kind: str, name: str) -> dict[str, Any]:
        """Return a Role of the namespace, or a ClusterRole."""
        if kind == "ClusterRole":
            return dict(self._ask(self._rbac.read_cluster_role, name))
        return dict(self._ask(self._rbac.read_namespaced_role, name, self.namespace))

    def admission_policy(self, name: str) -> dict[str, Any]:
        """Return a ValidatingAdmissionPolicy."""
        return dict(self._ask(self._admission.read_validating_admission_policy, name))

    def custom(self, group: str, version: str, plural: str, name: str, namespace: str = "") -> dict[str, Any]:
        """Return an object of a custom resource; without a namespace, one of the cluster's scope."""
        if namespace:
            found = self._ask(self._custom.get_namespaced_custom_object, group, version, namespace, plural, name)
        else:
            found = self._ask(self._custom.get_cluster_custom_object, group, version, plural, name)
        return dict(found)

    def customs(self, group: str, version: str, plural: str, *, everywhere: bool = False) -> list[dict[str, Any]]:
        """Return the objects of a custom resource: of the namespace, or of all namespaces."""
        if everywhere:
            return self._list(self._custom.list_cluster_custom_object, group, version, plural)
        return self._list(self._custom.list_namespaced_custom_object, group, version, self.namespace, plural)

    def version(self) -> str:
        """Return the API server's version, such as v1.34.1."""
        return str(self._ask(client.VersionApi(self._api).get_code)["gitVersion"])

    def may(self, verb: str, group: str, resource: str, name: str = "") -> bool:
        """Tell whether this user may do something in the namespace; a subresource follows a slash."""
        resource, _, subresource = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": self.namespace,
            "name": name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = self._ask(self._authorization.create_self_subject_access_review, review)
        return bool(answer["status"]["allowed"])

    def events_of(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Return the events of an object, oldest first; none when this user may not read them."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        try:
            found = self._list(self._core.list_namespaced_event, self.namespace, field_selector=selector)
        except ForbiddenError:
            return []
        return sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))

    def create_job(self, job: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create a Job and return it; with `dry_run` the API server only checks that it would accept it."""
        made: dict[str, Any] = self._make(self._batch.create_namespaced_job, self.namespace, job, dry_run=dry_run)
        return made

    def create_network_policy(self, policy: dict[str, Any], *, dry_run: bool = False) -> None:
        """Create a NetworkPolicy; with `dry_run` the API server only checks that it would accept it."""
        self._make(self._network.create_namespaced_network_policy, self.namespace, policy, dry_run=dry_run)

    def create_custom(
        self, group: str, version: str, plural: str, item: dict[str, Any], *, dry_run: bool = False
    ) -> None:
        """Create an object of a custom resource; with `dry_run` the API server only checks that it would accept it."""
        make = self._custom.create_namespaced_custom_object
        self._make(make, group, version, self.namespace, plural, item, dry_run=dry_run)

    def apply_cronjob(self, intent: dict[str, Any], *, force: bool, dry_run: bool) -> dict[str, Any]:
        """Apply what the plugin wants of a CronJob that exists, on the server; return what it is then.

        Raises:
            ConflictError: When a field has another owner and another value, and `force` is not set.
        """
        changed = self._ask(
            self._batch.patch_namespaced_cron_job,
            intent["metadata"]["name"],
            self.namespace,
            intent,
            field_manager=MANAGER,
            force=force,
            _content_type="application/apply-patch+yaml",
            **_dry_run(dry_run),
        )
        return dict(changed)

    def delete_job(self, name: str) -> bool:
        """Delete a Job and its pods, and tell whether it still existed."""
        try:
            self._ask(self._batch.delete_namespaced_job, name, self.namespace, propagation_policy="Background")
        except NotFoundError:
            return False
        return True

    def log_lines(self, pod: str, container: str, *, follow: bool, skip: int = 0) -> Iterator[str]:
        """Yield the lines of a container's log, after the first `skip`.

        Raises:
            ConnectionError: When the stream broke; call again and skip the lines that came.
        """
        try:
            answer: Any = self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                follow=follow,
                _preload_content=False,
                _request_timeout=_FOLLOW_TIMEOUT,
            )
        except ApiException as error:
            raise explained(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ConnectionError(str(error)) from None
        rest, count = b"", 0
        try:
            for chunk in answer.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    count += 1
                    if count > skip:
                        yield line.decode(errors="replace")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ConnectionError(str(error)) from None
        finally:
            answer.close()
        if rest and count >= skip:
            yield rest.decode(errors="replace")

    def execute(
        self,
        pod: str,
        container: str,
        command: Sequence[str],
        sink: Callable[[bytes], None] | None = None,
    ) -> Executed:
        """Run a command in a container.

        Args:
            pod: Name of the pod.
            container: Name of the container.
            command: Program and arguments.
            sink: Receives the standard output as it arrives; without one it is in the result.

        Raises:
            ConnectionError: When the connection was lost before the command ended.
            PluginError: When the API server refuses, or the command cannot be started.
        """
        try:
            socket = stream(
                self._core.connect_get_namespaced_pod_exec,
                pod,
                self.namespace,
                container=container,
                command=list(command),
                stdin=False,
                stdout=True,
                stderr=True,
                tty=False,
                binary=True,
                _preload_content=False,
            )
        except (ApiException, AttributeError) as error:
            raise explained(error) from None
        try:
            socket.sock.settimeout(_EXEC_SILENCE)
            return _conversation(socket.sock, sink)
        finally:
            socket.sock.shutdown()


def _dry_run(dry_run: bool) -> dict[str, str]:
    return {"dry_run": "All"} if dry_run else {}


def _conversation(socket: Any, sink: Callable[[bytes], None] | None) -> Executed:
    """Read the frames of an exec until it ends."""
    output, errors, ending = bytearray(), bytearray(), bytearray()
    while True:
        try:
            code, frame = socket.recv_data_frame(True)
        except (websocket.WebSocketException, ssl.SSLError, OSError) as error:
            if ending:
                break
            raise ConnectionError(str(error) or type(error).__name__) from None
        if code == websocket.ABNF.OPCODE_CLOSE:
            break
        if code not in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) or not frame.data:
            continue
        channel, data = frame.data[0], frame.data[1:]
        if channel == _CHANNEL_STDOUT:
            if sink is None:
                output += data
            elif data:
                sink(data)
        elif channel == _CHANNEL_STDERR:
            errors += data
        elif channel == _CHANNEL_ERROR:
            ending += data
    if not ending:
        raise ConnectionError("the connection ended before the command did")
    return Executed(_exit_code(bytes(ending)), bytes(output), errors.decode(errors="replace"))


def _exit_code(ending: bytes) -> int:
    """Return the exit code in the last message of an exec."""
    status = json.loads(ending)
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise PluginError(f"the command could not be run: {status.get('message', 'unknown reason')}")
