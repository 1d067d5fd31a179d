# Without comments: they are in the project's file of this name.
import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from watch.targets import Post
_SECONDS = 10
class SendError(Exception):
 pass
class _SameHost(urllib.request.HTTPRedirectHandler):
 def redirect_request(
  self,
  req,
  fp,
  code,
  msg,
  headers,
  newurl,
 ):
  old, new = urlsplit(req.full_url), urlsplit(newurl)
  if (old.scheme, old.netloc) != (new.scheme, new.netloc):
   raise SendError("it redirects to another host; correct the URL in the Secret")
  return super().redirect_request(req, fp, code, msg, headers, newurl)
def read_url(path):
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
def send(post, authority = None):
 try:
  opener = urllib.request.build_opener(_SameHost, *_verified(post.url, authority))
  request = urllib.request.Request(post.url, post.body, dict(post.headers))
  with opener.open(request, timeout=_SECONDS) as answer:
   answer.read(1024)
 except urllib.error.HTTPError as error:
  raise SendError(f"it answered {error.code}") from None
 except ssl.SSLError as error:
  raise SendError(f"its certificate is not trusted, or TLS failed: {error.reason}") from None
 except (OSError, http.client.HTTPException, ValueError) as error:
  reason = getattr(error, "reason", None)
  raise SendError(f"it was not reached: {reason or type(error).__name__}") from None
def _verified(url, authority):
 if urlsplit(url).scheme != "https":
  return []
 context = ssl.create_default_context()
 if authority is not None:
  context.load_verify_locations(authority)
  context.verify_flags &= ~ssl.VERIFY_X509_STRICT
 return [urllib.request.HTTPSHandler(context=context)]
