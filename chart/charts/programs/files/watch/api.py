# Without comments: they are in the project's file of this name.
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
 pass
@dataclass(frozen=True, slots=True)
class Api:
 url: str
 token: Path
 authority: Path | None
 namespace: str
 def list(self, group, kind, selector):
  query = urlencode({"labelSelector": selector, "resourceVersion": "0"})
  found = self._request("GET", f"/{group}/namespaces/{quote(self.namespace)}/{kind}?{query}")
  items = found.get("items", []) if isinstance(found, dict) else None
  if not isinstance(items, list | None) or not isinstance(found, dict):
   raise ApiError(f"the list of {kind} is not a list")
  return items or []
 def read_config_map(self, name):
  found = self._request("GET", self._config_map(name))
  data = found.get("data") if isinstance(found, dict) else None
  return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
 def write_config_map(self, name, data):
  self._request("PATCH", self._config_map(name), json.dumps({"data": data}).encode())
 def create_event(self, event):
  path = f"/api/v1/namespaces/{quote(self.namespace)}/events"
  self._request("POST", path, json.dumps(event).encode(), _JSON, (http.client.CREATED, http.client.CONFLICT))
 def _config_map(self, name):
  return f"/api/v1/namespaces/{quote(self.namespace)}/configmaps/{quote(name)}"
 def _request(
  self,
  method,
  path,
  body = None,
  kind = _MERGE,
  good = (http.client.OK,),
 ):
  host = urlsplit(self.url).netloc
  try:
   headers = {"Authorization": f"Bearer {self.token.read_text().strip()}", "Accept": "application/json"}
   if body is not None:
    headers["Content-Type"] = kind
   context = ssl.create_default_context(cafile=None if self.authority is None else str(self.authority))
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
