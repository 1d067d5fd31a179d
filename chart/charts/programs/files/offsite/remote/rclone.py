# Without comments: they are in the project's file of this name.
import http.client
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode
from offsite.remote.errors import CarrierError, MissingError, RemoteError, UnknownError, explain, shortened
from offsite.rule.copies import Entry
from offsite.rule.parts import Parts
from retention.text import parse_moment
LEAST_VERSION: Final = (1, 74)
_IDLE_SECONDS = 600.0
_ONCE: Final = {"UploadHeaders": [{"Key": "If-None-Match", "Value": "*"}]}
_S3 = "s3"
_START_AGAIN = "see the log of the container rclone; the next run tries again"
@dataclass(frozen=True, slots=True)
class Destination:
 socket: str
 type: str
 path: str
 remote: str = "OFFSITE"
 etags: bool = True
 lock: dict[str, str] = field(default_factory=dict)
 def fs(self, **options):
  text = "".join(f",{key}={value}" for key, value in options.items())
  return f"{self.remote}{text}:{self.path}/"
class _Connection(http.client.HTTPConnection):
 def __init__(self, path, timeout):
  super().__init__("localhost", timeout=timeout)
  self._path = path
 def connect(self):
  self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
  self.sock.settimeout(self.timeout)
  self.sock.connect(self._path)
@dataclass(frozen=True, slots=True)
class Object:
 size: int
 md5: str
 written: datetime | None
class Rclone:
 def __init__(self, destination, *, idle_seconds = _IDLE_SECONDS):
  self.destination = destination
  self._idle = idle_seconds
 def wait(self, seconds):
  deadline = time.monotonic() + seconds
  while True:
   try:
    left = max(1.0, deadline - time.monotonic())
    found = self._call("core/version", {}, "asking rclone for its version", left)
    break
   except CarrierError:
    if time.monotonic() >= deadline:
     raise
    time.sleep(0.1)
  version = str(found.get("version", ""))
  numbers = tuple(found.get("decomposed") or ())[:2]
  if numbers < LEAST_VERSION:
   raise CarrierError(
    f"rclone is {shortened(version)}, and {'.'.join(map(str, LEAST_VERSION))} or newer is needed",
    "set offsite.image to a newer one",
   )
  return version
 def list(self, folder):
  options = {"recurse": True, "noMimeType": True, "filesOnly": True}
  more = {"_config": {"UseServerModTime": True}}
  what = f"listing {self._place(folder)}"
  request = {"fs": self.destination.fs(), "remote": folder, "opt": options, **more}
  try:
   found = self._call("operations/list", request, what)
  except MissingError as error:
   if self._is_missing_bucket():
    bucket = self.destination.path.partition("/")[0]
    raise MissingError(
     f"{what}: there is no such bucket ({bucket}), or the store does not know the access key",
     "make the bucket, or correct offsite.path, and access_key_id in the Secret of offsite.secretName",
    ) from error
   return []
  prefix = f"{folder}/" if folder else ""
  return [
   Entry(str(one["Path"]).removeprefix(prefix), int(one["Size"]), parse_moment(str(one.get("ModTime", ""))))
   for one in found.get("list") or ()
  ]
 def _is_missing_bucket(self):
  if self.destination.type != _S3:
   return False
  bucket = self.destination.path.partition("/")[0]
  request = {"fs": f"{self.destination.remote}:{bucket}/", "remote": "", "opt": {"noMimeType": True}}
  try:
   self._call("operations/list", {**request, "_filter": {"MaxDepth": 1}}, "looking for the bucket")
  except MissingError:
   return True
  return False
 def look(self, path):
  request = {"fs": self.destination.fs(), "remote": path, "opt": {"showHash": True, "noMimeType": True}}
  request["_config"] = {"UseServerModTime": True}
  try:
   item = self._call("operations/stat", request, f"looking at {self._place(path)}").get("item")
  except MissingError:
   return None
  if item is None or item.get("IsDir"):
   return None
  md5 = str((item.get("Hashes") or {}).get("md5") or "")
  return Object(int(item["Size"]), md5, parse_moment(str(item.get("ModTime", ""))))
 def upload(
  self,
  path,
  pieces,
  size,
  parts,
  *,
  once = False,
  locked = False,
  check = lambda: None,
 ):
  folder, _, name = path.rpartition("/")
  query = {"fs": self.destination.fs(**self._upload_options(parts, locked=locked)), "remote": folder}
  if once:
   query["_config"] = json.dumps(_ONCE)
  boundary = secrets.token_hex(24)
  head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
  tail = f"\r\n--{boundary}--\r\n".encode()
  what = f"writing {self._place(path)}"
  with self._connection() as connection:
   with _carried(what):
    connection.putrequest("POST", f"/operations/uploadfile?{urlencode(query)}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
    connection.putheader("Content-Length", str(len(head) + size + len(tail)))
    connection.endheaders(head)
   sent = 0
   for piece in pieces:
    check()
    sent += len(piece)
    if not self._send(connection, piece, what):
     break
   else:
    if sent != size:
     raise RemoteError(f"{what}: {sent} bytes instead of {size}", "please report this")
    check()
    self._send(connection, tail, what)
   with _carried(what):
    answer = connection.getresponse()
    content = answer.read(1 << 20)
  if answer.status != http.client.OK:
   raise explain(what, _reason(content))
 def _upload_options(self, parts, *, locked):
  if self.destination.type != _S3:
   return {}
  return {
   "chunk_size": f"{parts.size}B",
   "upload_concurrency": str(parts.at_once),
   "use_multipart_etag": "true" if self.destination.etags else "false",
   **(self.destination.lock if locked else {}),
  }
 def _send(self, connection, piece, what):
  try:
   connection.send(piece)
  except (BrokenPipeError, ConnectionResetError):
   return False
  except TimeoutError:
   raise CarrierError(f"{what}: rclone did not take more in time", _START_AGAIN) from None
  except OSError as error:
   raise CarrierError(f"{what}: rclone takes nothing any more ({_os_reason(error)})", _START_AGAIN) from None
  return True
 @contextmanager
 def reading(self, path):
  what = f"reading {self._place(path)}"
  with self._connection() as connection:
   with _carried(what):
    connection.request("GET", f"/[{quote(self.destination.fs(), safe='/:')}]/{quote(path)}")
    answer = connection.getresponse()
    if answer.status != http.client.OK:
     content = answer.read(1 << 16)
   if answer.status != http.client.OK:
    raise explain(what, _reason(content) or f"StatusCode: {answer.status}")
   size = answer.length or 0
   left = size
   def readinto(view):
    nonlocal left
    with _carried(what):
     count = answer.readinto(view) if len(view) else 0
    left -= count
    if not count and left:
     raise RemoteError(f"{what}: it broke off {left} bytes before its end", _START_AGAIN)
    return count
   yield readinto, size
 def read(self, path, most):
  with self.reading(path) as (readinto, size):
   if size > most:
    raise RemoteError(f"reading {self._place(path)}: it has {size} bytes, and at most {most} are expected")
   content, filled = bytearray(size), 0
   while filled < size and (count := readinto(memoryview(content)[filled:])):
    filled += count
  return bytes(content)
 def delete(self, path):
  request = {"fs": self.destination.fs(), "remote": path}
  try:
   self._call("operations/deletefile", request, f"deleting {self._place(path)}")
  except MissingError:
   return False
  return True
 def abort_pending(self, prefix, older_than):
  if self.destination.type != _S3:
   return
  fs = f"{self.destination.remote}:{self.destination.path}/{prefix}"
  request = {"command": "cleanup", "fs": fs, "opt": {"max-age": older_than}}
  try:
   self._call("backend/command", request, f"ending interrupted uploads in {self._place(prefix)}")
  except UnknownError:
   return
 def _place(self, path):
  return f"{self.destination.path}/{path}".rstrip("/")
 def _call(self, method, parameters, what, seconds = None):
  with self._connection(seconds) as connection, _carried(what):
   content = json.dumps(parameters).encode()
   connection.request("POST", f"/{method}", content, {"Content-Type": "application/json"})
   answer = connection.getresponse()
   content = answer.read()
  if answer.status != http.client.OK:
   raise explain(what, _reason(content))
  try:
   document = json.loads(content)
  except ValueError:
   raise CarrierError(f"{what}: rclone's answer is not JSON", _START_AGAIN) from None
  return document if isinstance(document, dict) else {}
 @contextmanager
 def _connection(self, seconds = None):
  connection = _Connection(self.destination.socket, self._idle if seconds is None else seconds)
  try:
   yield connection
  finally:
   connection.close()
@contextmanager
def _carried(what):
 try:
  yield
 except TimeoutError:
  raise CarrierError(f"{what}: rclone did not answer in time", _START_AGAIN) from None
 except (http.client.HTTPException, OSError) as error:
  raise CarrierError(f"{what}: rclone does not answer ({_os_reason(error)})", _START_AGAIN) from None
def _os_reason(error):
 text = error.strerror if isinstance(error, OSError) else ""
 return text or type(error).__name__
def _reason(content):
 text = content.decode(errors="replace")
 try:
  document = json.loads(text)
 except ValueError:
  return text
 return str(document.get("error", "")) if isinstance(document, dict) else text
