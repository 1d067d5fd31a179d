"""The API server, as far as the watcher may use it: three lists, one ConfigMap by its name, and new Events."""

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

_SECONDS = 10
_MOST_BYTES = 64 * 1024 * 1024
_MERGE, _JSON = "application/merge-patch+json", "application/json"


class ApiError(Exception):
    """The API server did not answer as it should; the text says how."""


@dataclass(frozen=True, slots=True)
class Api:
    """The API server.

    Attributes:
        url: Where it is, `https://host:port`.
        token: The file with the token, read for each request: Kubernetes replaces it.
        authority: The file with the certificates that are trusted; None for those of the system.
        namespace: The namespace.
    """

    url: str
    token: Path
    authority: Path | None
    namespace: str

    def list(self, group: str, kind: str, selector: str) -> list[Any]:
        """Return all objects of a kind that have some labels, from the API server's cache.

        Args:
            group: Such as `apis/batch/v1`.
            kind: In plural, such as `jobs`.
            selector: The labels.

        Raises:
            ApiError: When it did not answer with a list.
        """
        query = urlencode({"labelSelector": selector, "resourceVersion": "0"})
        found = self._request("GET", f"/{group}/namespaces/{quote(self.namespace)}/{kind}?{query}")
        items = found.get("items", []) if isinstance(found, dict) else None
        if not isinstance(items, list | None) or not isinstance(found, dict):
            raise ApiError(f"the list of {kind} is not a list")
        return items or []

    def read_config_map(self, name: str) -> dict[str, str]:
        """Return the content of a ConfigMap.

        Raises:
            ApiError: When it cannot be read.
        """
        found = self._request("GET", self._config_map(name))
        data = found.get("data") if isinstance(found, dict) else None
        return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}

    def write_config_map(self, name: str, data: dict[str, str]) -> None:
        """Change the content of a ConfigMap; other keys stay.

        Raises:
            ApiError: When it cannot be changed.
        """
        self._request("PATCH", self._config_map(name), json.dumps({"data": data}).encode())

    def create_event(self, event: dict[str, Any]) -> None:
        """Make an Event; one of its name that is there already is as good.

        Raises:
            ApiError: When it was not accepted.
        """
        path = f"/api/v1/namespaces/{quote(self.namespace)}/events"
        self._request("POST", path, json.dumps(event).encode(), _JSON, (http.client.CREATED, http.client.CONFLICT))

    def _config_map(self, name: str) -> str:
        return f"/api/v1/namespaces/{quote(self.namespace)}/configmaps/{quote(name)}"

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = _MERGE,
        good: tuple[int, ...] = (http.client.OK,),
    ) -> Any:
        host = urlsplit(self.url).netloc
        try:
            headers = {"Authorization": f"Bearer {self.token.read_text().strip()}", "Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = kind
            context = ssl.create_default_context(cafile=None if self.authority is None else str(self.authority))
            # Python 3.13 and newer refuse authorities that do not say what their key is for, as many a cluster's does.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            connection = http.client.HTTPSConnection(host, timeout=_SECONDS, context=context)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                content = answer.read(_MOST_BYTES + 1)
            finally:
                connection.close()
            if answer.status not in good:
                raise ApiError(f"{method} {path.partition('?')[0]}: {answer.status} {answer.reason}")
            if len(content) > _MOST_BYTES:
                raise ApiError(f"{method} {path.partition('?')[0]}: more than {_MOST_BYTES} bytes")
            return json.loads(content)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise ApiError(f"{method} {path.partition('?')[0]}: {error or type(error).__name__}") from None
