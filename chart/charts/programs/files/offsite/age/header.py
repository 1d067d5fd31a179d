# Without comments: they are in the project's file of this name.
import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from offsite.age.errors import HeaderError
VERSION: Final = b"age-encryption.org/v1\n"
_STANZA: Final = b"-> "
_END: Final = b"---"
_COLUMNS = 64
_MAC_LENGTH = 32
MOST_BYTES: Final = 256 * 1024
_NOT_AGE = "check that it is an archive that this program, or age, has encrypted, and that it arrived in full"
@dataclass(frozen=True, slots=True)
class Stanza:
 arguments: tuple[str, ...]
 body: bytes
 @property
 def type(self):
  return self.arguments[0]
@dataclass(frozen=True, slots=True)
class Header:
 stanzas: tuple[Stanza, ...]
 mac: bytes
 signed: bytes
def signed_part(stanzas):
 lines = [VERSION]
 for stanza in stanzas:
  lines.append(_STANZA + " ".join(stanza.arguments).encode() + b"\n")
  body = encode(stanza.body)
  lines += [body[place : place + _COLUMNS] + b"\n" for place in range(0, len(body) + 1, _COLUMNS)]
 return b"".join([*lines, _END])
def whole(signed, mac):
 return signed + b" " + encode(mac) + b"\n"
def parse(line):
 signed = bytearray(_next(line, 0))
 if bytes(signed) != VERSION:
  raise HeaderError("this is not an age file of version 1", _NOT_AGE)
 stanzas: list[Stanza] = []
 while True:
  text = _next(line, len(signed))
  if text.startswith(_END):
   mac = _mac(text)
   signed += _END
   break
  stanzas.append(_stanza(text, line, signed))
 if not stanzas:
  raise _damaged("it has no recipient")
 if len(stanzas) > 1 and any(stanza.type == "scrypt" for stanza in stanzas):
  raise _damaged("a passphrase is not its only recipient")
 return Header(tuple(stanzas), mac, bytes(signed))
def encode(content):
 return base64.b64encode(content).rstrip(b"=")
def decode(text):
 try:
  content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
 except (binascii.Error, ValueError):
  raise _damaged("a value is not base64") from None
 if encode(content) != text:
  raise _damaged("a value is not canonical base64")
 return content
def _next(line, so_far):
 text = line()
 if not text.endswith(b"\n"):
  raise HeaderError("the header of the age file ends too early", _NOT_AGE)
 if so_far + len(text) > MOST_BYTES:
  raise HeaderError(f"the header of the age file is longer than {MOST_BYTES} bytes", _NOT_AGE)
 return text
def _stanza(text, line, signed):
 if not text.startswith(_STANZA):
  raise _damaged("a line is neither a recipient nor the end")
 arguments = text[len(_STANZA) : -1].split(b" ")
 if not all(argument and all(33 <= byte <= 126 for byte in argument) for argument in arguments):
  raise _damaged("a recipient has an invalid argument")
 signed += text
 body = b""
 while True:
  part = _next(line, len(signed))
  if len(part) > _COLUMNS + 1:
   raise _damaged("a line is too long")
  signed += part
  body += part[:-1]
  if len(part) <= _COLUMNS:
   break
 return Stanza(tuple(argument.decode() for argument in arguments), decode(body))
def _mac(text):
 if not text.startswith(_END + b" "):
  raise _damaged("its MAC is missing")
 mac = decode(text[len(_END) + 1 : -1])
 if len(mac) != _MAC_LENGTH:
  raise _damaged("its MAC has a wrong length")
 return mac
def _damaged(what):
 return HeaderError(f"the header of the age file is damaged: {what}", _NOT_AGE)
