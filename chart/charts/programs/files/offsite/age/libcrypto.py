# Without comments: they are in the project's file of this name.
import ctypes
import functools
import hashlib
import hmac
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from typing import Any, Final
from offsite.age.errors import LibcryptoError
TAG_LENGTH: Final = 16
_KEY_LENGTH = 32
_X25519 = 1034
_GET_TAG, _SET_TAG = 0x10, 0x11
_KNOWN_NAMES = ("libcrypto.so.3", "libcrypto.so", "libcrypto.so.1.1")
REMEDY: Final = "use the official python image, such as python:3.14-alpine (value retention.image)"
_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
 "EVP_PKEY_new_raw_private_key": (c_void_p, (c_int, c_void_p, c_char_p, c_size_t)),
 "EVP_PKEY_new_raw_public_key": (c_void_p, (c_int, c_void_p, c_char_p, c_size_t)),
 "EVP_PKEY_get_raw_public_key": (c_int, (c_void_p, c_void_p, c_void_p)),
 "EVP_PKEY_free": (None, (c_void_p,)),
 "EVP_PKEY_CTX_new": (c_void_p, (c_void_p, c_void_p)),
 "EVP_PKEY_CTX_free": (None, (c_void_p,)),
 "EVP_PKEY_derive_init": (c_int, (c_void_p,)),
 "EVP_PKEY_derive_set_peer": (c_int, (c_void_p, c_void_p)),
 "EVP_PKEY_derive": (c_int, (c_void_p, c_void_p, c_void_p)),
 "EVP_chacha20_poly1305": (c_void_p, ()),
 "EVP_CIPHER_CTX_new": (c_void_p, ()),
 "EVP_CIPHER_CTX_free": (None, (c_void_p,)),
 "EVP_CIPHER_CTX_ctrl": (c_int, (c_void_p, c_int, c_int, c_void_p)),
 "EVP_EncryptInit_ex": (c_int, (c_void_p, c_void_p, c_void_p, c_char_p, c_char_p)),
 "EVP_EncryptUpdate": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_int)),
 "EVP_EncryptFinal_ex": (c_int, (c_void_p, c_void_p, c_void_p)),
 "EVP_DecryptInit_ex": (c_int, (c_void_p, c_void_p, c_void_p, c_char_p, c_char_p)),
 "EVP_DecryptUpdate": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_int)),
 "EVP_DecryptFinal_ex": (c_int, (c_void_p, c_void_p, c_void_p)),
}
@functools.cache
def _library():
 missing = "this image's Python has no libcrypto"
 for path in _candidates():
  try:
   library = ctypes.CDLL(path)
   for name, (result, arguments) in _FUNCTIONS.items():
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
  except OSError:
   continue
  except AttributeError as error:
   missing = f"the libcrypto of this image's Python lacks a function ({str(error).rpartition(' ')[2]})"
   continue
  return library
 raise LibcryptoError(f"archives cannot be encrypted: {missing}", REMEDY)
def _candidates():
 for name in ("_hashlib", "_ssl"):
  try:
   path = getattr(importlib.import_module(name), "__file__", None)
  except ImportError:
   continue
  if path:
   yield path
 yield None
 yield from _KNOWN_NAMES
class Area:
 __slots__ = ("_holder", "address", "view")
 def __init__(self, size):
  memory = bytearray(size)
  self._holder = (ctypes.c_char * size).from_buffer(memory)
  self.address = ctypes.addressof(self._holder)
  self.view = memoryview(memory)
class Cipher:
 __slots__ = ("_context", "_encrypts", "_library", "_refuse", "_written")
 def __init__(self, key, *, encrypts):
  _check_length(key)
  self._library = library = _library()
  self._encrypts = encrypts
  self._context = library.EVP_CIPHER_CTX_new()
  self._written = ctypes.byref(c_int(0))
  if not self._context:
   raise _refused("EVP_CIPHER_CTX_new")
  start = library.EVP_EncryptInit_ex if encrypts else library.EVP_DecryptInit_ex
  kind = library.EVP_chacha20_poly1305()
  if not kind or start(self._context, kind, None, key, None) != 1:
   self.close()
   raise _refused("ChaCha20-Poly1305")
 def close(self):
  if self._context:
   self._library.EVP_CIPHER_CTX_free(self._context)
   self._context = None
 def __enter__(self):
  return self
 def __exit__(self, *_):
  self.close()
 def seal(self, nonce, source, count, target):
  library, context, written = self._library, self._context, self._written
  if not (
   library.EVP_EncryptInit_ex(context, None, None, None, nonce) == 1
   and library.EVP_EncryptUpdate(context, target, written, source, count) == 1
   and library.EVP_EncryptFinal_ex(context, target + count, written) == 1
   and library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_LENGTH, target + count) == 1
  ):
   raise _refused("encryption")
 def open(self, nonce, source, count, target):
  library, context, written = self._library, self._context, self._written
  if not (
   library.EVP_DecryptInit_ex(context, None, None, None, nonce) == 1
   and library.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG_LENGTH, source + count) == 1
   and library.EVP_DecryptUpdate(context, target, written, source, count) == 1
  ):
   raise _refused("decryption")
  return bool(library.EVP_DecryptFinal_ex(context, target + count, written) == 1)
def seal(key, nonce, content):
 source, target = Area(len(content) or 1), Area(len(content) + TAG_LENGTH)
 source.view[: len(content)] = content
 with Cipher(key, encrypts=True) as cipher:
  cipher.seal(nonce, source.address, len(content), target.address)
 return bytes(target.view)
def unseal(key, nonce, content):
 count = len(content) - TAG_LENGTH
 if count < 0:
  return None
 source, target = Area(len(content)), Area(count or 1)
 source.view[:] = content
 with Cipher(key, encrypts=False) as cipher:
  if not cipher.open(nonce, source.address, count, target.address):
   return None
 return bytes(target.view[:count])
def public_key(private):
 _check_length(private)
 library, result, length = _library(), ctypes.create_string_buffer(_KEY_LENGTH), c_size_t(_KEY_LENGTH)
 with _key(library, "EVP_PKEY_new_raw_private_key", private) as own:
  if library.EVP_PKEY_get_raw_public_key(own, result, ctypes.byref(length)) != 1:
   raise _refused("X25519")
 return result.raw
def shared_secret(private, public):
 _check_length(private)
 _check_length(public)
 library, result, length = _library(), ctypes.create_string_buffer(_KEY_LENGTH), c_size_t(_KEY_LENGTH)
 with (
  _key(library, "EVP_PKEY_new_raw_private_key", private) as own,
  _key(library, "EVP_PKEY_new_raw_public_key", public) as other,
 ):
  context = library.EVP_PKEY_CTX_new(own, None)
  try:
   if not context or library.EVP_PKEY_derive_init(context) != 1:
    raise _refused("X25519")
   if library.EVP_PKEY_derive_set_peer(context, other) != 1:
    return None
   if library.EVP_PKEY_derive(context, result, ctypes.byref(length)) != 1:
    return None
  finally:
   library.EVP_PKEY_CTX_free(context)
 return None if not any(result.raw) else result.raw
@contextmanager
def _key(library, function, content):
 key = getattr(library, function)(_X25519, None, content, _KEY_LENGTH)
 if not key:
  raise _refused("X25519")
 try:
  yield key
 finally:
  library.EVP_PKEY_free(key)
def derive(secret, salt, info):
 extracted = hmac.digest(salt or bytes(hashlib.sha256().digest_size), secret, "sha256")
 return hmac.digest(extracted, info + b"\x01", "sha256")
def _check_length(key):
 if len(key) != _KEY_LENGTH:
  raise ValueError(f"a key of {len(key)} bytes")
def _refused(what):
 return LibcryptoError(f"archives cannot be encrypted: libcrypto refuses {what}", REMEDY)
