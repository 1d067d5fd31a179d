# Without comments: they are in the project's file of this name.
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import socket
from socketserver import ThreadingMixIn
from typing import Any
_THREADS = 8
_SECONDS = 10
_HEADERS = {
 "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
 "X-Content-Type-Options": "nosniff",
 "Referrer-Policy": "no-referrer",
 "Cache-Control": "no-store",
}
@dataclass(frozen=True, slots=True)
class Document:
 content: bytes
 content_type: str
Documents = Callable[[str], Document | None]
class _Handler(BaseHTTPRequestHandler):
 server: "Server"
 timeout = _SECONDS
 server_version, sys_version = "cnpg-backup", ""
 def do_GET(self):
  self._answer(with_content=True)
 def do_HEAD(self):
  self._answer(with_content=False)
 def _answer(self, *, with_content):
  found = self.server.documents(self.path.partition("?")[0])
  if found is None:
   self.send_error(HTTPStatus.NOT_FOUND)
   return
  self.send_response(HTTPStatus.OK)
  self.send_header("Content-Type", found.content_type)
  self.send_header("Content-Length", str(len(found.content)))
  self.end_headers()
  if with_content:
   self.wfile.write(found.content)
 def end_headers(self):
  for name, value in _HEADERS.items():
   self.send_header(name, value)
  super().end_headers()
 def log_message(self, format, *_):
  pass
class Server(ThreadingMixIn, HTTPServer):
 daemon_threads = True
 def __init__(self, address, documents):
  super().__init__(address, _Handler)
  self.documents = documents
  self._free = threading.BoundedSemaphore(_THREADS)
 def process_request(self, request, client_address):
  if self._free.acquire(blocking=False):
   super().process_request(request, client_address)
  else:
   self.shutdown_request(request)
 def process_request_thread(self, request, client_address):
  try:
   super().process_request_thread(request, client_address)
  finally:
   self._free.release()
 def handle_error(self, request, client_address):
  pass
