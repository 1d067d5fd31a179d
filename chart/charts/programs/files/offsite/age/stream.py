# Without comments: they are in the project's file of this name.
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from offsite.age import header, keys, libcrypto
from offsite.age.errors import HeaderError, KeyFormatError, PayloadError
from offsite.age.keys import Identity, Recipient
from offsite.age.libcrypto import TAG_LENGTH, Area, Cipher
CHUNK: Final = 64 * 1024
_SEALED = CHUNK + TAG_LENGTH
_NONCE_LENGTH = 16
_CHUNKS = 16
_DAMAGED = "use another copy of the archive"
ReadInto = Callable[[memoryview], int]
def encrypted_size(size, recipients):
 chunks = max(1, -(-size // CHUNK))
 return keys.header_length(recipients) + _NONCE_LENGTH + size + chunks * TAG_LENGTH
def encrypted(read, recipients):
 if not recipients:
  raise KeyFormatError("there is no recipient", "give at least one public key")
 file_key, nonce = os.urandom(keys.FILE_KEY_LENGTH), os.urandom(_NONCE_LENGTH)
 yield memoryview(keys.header_for(recipients, file_key) + nonce)
 plain, sealed = Area(_CHUNKS * CHUNK + 1), Area(_CHUNKS * _SEALED)
 counter = carried = 0
 with Cipher(libcrypto.derive(file_key, nonce, b"payload"), encrypts=True) as cipher:
  while True:
   filled = carried + _fill(read, plain.view[carried:])
   ended = filled <= _CHUNKS * CHUNK
   count = max(1, -(-filled // CHUNK)) if ended else _CHUNKS
   end = 0
   for chunk in range(count):
    last = ended and chunk == count - 1
    length = filled - chunk * CHUNK if last else CHUNK
    cipher.seal(_nonce(counter, last), plain.address + chunk * CHUNK, length, sealed.address + end)
    end += length + TAG_LENGTH
    counter += 1
   yield sealed.view[:end]
   if ended:
    return
   plain.view[0] = plain.view[filled - 1]
   carried = 1
def decrypted(read, identities):
 source = _Source(read)
 file_key = keys.file_key_of(header.parse(source.line), identities)
 nonce = source.take(_NONCE_LENGTH)
 if len(nonce) < _NONCE_LENGTH:
  raise HeaderError("the age file ends after its header", _DAMAGED)
 sealed, plain = Area(_CHUNKS * _SEALED + 1), Area(_CHUNKS * CHUNK)
 counter = carried = 0
 with Cipher(libcrypto.derive(file_key, nonce, b"payload"), encrypts=False) as cipher:
  while True:
   filled = carried + _fill(source.readinto, sealed.view[carried:])
   ended = filled <= _CHUNKS * _SEALED
   opened = _Opened(cipher, sealed, plain, counter)
   error = opened.run(filled if ended else filled - 1, ended=ended)
   if opened.bytes:
    yield plain.view[: opened.bytes]
   if error:
    raise PayloadError(f"the archive is damaged or incomplete: {error}", _DAMAGED)
   if ended:
    return
   counter = opened.counter
   sealed.view[0] = sealed.view[filled - 1]
   carried = 1
class _Opened:
 def __init__(self, cipher, sealed, plain, counter):
  self._cipher = cipher
  self._sealed = sealed
  self._plain = plain
  self.counter = counter
  self.bytes = 0
 def run(self, filled, *, ended):
  if not filled:
   return "it ends too early"
  for place in range(0, filled, _SEALED):
   length = min(_SEALED, filled - place) - TAG_LENGTH
   last = ended and place + _SEALED >= filled
   if length < 0:
    return "it ends within a chunk"
   if length == 0 and self.counter:
    return "its last chunk is empty"
   if self._open(place, length, last=last):
    continue
   if length == CHUNK and self._open(place, length, last=not last):
    return "it ends too early" if last else "something follows after its end"
   return f"chunk {self.counter} is not what was written"
  return ""
 def _open(self, place, length, *, last):
  nonce = _nonce(self.counter, last)
  target = self._plain.address + self.bytes
  if not self._cipher.open(nonce, self._sealed.address + place, length, target):
   return False
  self.bytes += length
  self.counter += 1
  return True
def _nonce(counter, last):
 return counter.to_bytes(11, "big") + (b"\x01" if last else b"\x00")
def _fill(read, view):
 filled = 0
 while filled < len(view):
  count = read(view[filled:])
  if not count:
   break
  filled += count
 return filled
class _Source:
 def __init__(self, read):
  self._read = read
  self._buffer = bytearray()
 def _more(self):
  piece = bytearray(4096)
  count = self._read(memoryview(piece))
  self._buffer += piece[:count]
  return bool(count)
 def line(self):
  looked = 0
  while (end := self._buffer.find(b"\n", looked)) < 0:
   looked = len(self._buffer)
   if looked > header.MOST_BYTES or not self._more():
    break
  return self.take(end + 1 or len(self._buffer))
 def take(self, count):
  while len(self._buffer) < count and self._more():
   pass
  taken = bytes(self._buffer[:count])
  del self._buffer[:count]
  return taken
 def readinto(self, view):
  if not self._buffer:
   return self._read(view)
  taken = self.take(min(len(view), len(self._buffer)))
  view[: len(taken)] = taken
  return len(taken)
