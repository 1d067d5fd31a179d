# Without comments: they are in the project's file of this name.
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
_SECONDS = 10
class SendError(Exception):
 pass
class _SameHost(urllib.request.HTTPRedirectHandler):
 def redirect_request(
  self,
  req: urllib.request.Request,
  fp: IO[bytes],
  code: int,
  msg: str,
  headers: http.client.HTTPMessage,
  newurl: str,
 ) -> urllib.request.Request | None:
  old, new = urlsplit(req.full_url), urlsplit(newurl)
  if (old.scheme, old.netloc) != (new.scheme, new.netloc):
   raise SendError("it redirects to another host; correct the URL in the Secret")
  return super().redirect_request(req, fp, code, msg, headers, newurl)
def read_url(path: Path) -> str:
 try:
  url = path.read_text().strip()
 except (OSError, ValueError):
  raise SendError("its URL cannot be read; create the Secret that notify names") from None
 try:
  parts = urlsplit(url)
 except ValueError:
  parts = urlsplit("")
 if parts.scheme not in ("http", "https") or not parts.netloc:
  raise SendError("the key of its Secret does not hold a URL")
 return url
def send(url: str, body: bytes) -> None:
 try:
  request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=utf-8"})
  with urllib.request.build_opener(_SameHost).open(request, timeout=_SECONDS) as answer:
   answer.read(1024)
 except urllib.error.HTTPError as error:
  raise SendError(f"it answered {error.code}") from None
 except (OSError, http.client.HTTPException, ValueError) as error:
  reason = getattr(error, "reason", None)
  raise SendError(f"it was not reached: {reason or type(error).__name__}") from None
