# Without comments: they are in the project's file of this name.
from offsite.age import libcrypto
from offsite.age.errors import LibcryptoError
_OURS = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
_OUR_PUBLIC_KEY = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
_THEIRS = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
_SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
_KEY = bytes(range(0x80, 0xA0))
_NONCE = bytes.fromhex("070000004041424344454647")
_TAG = bytes.fromhex("a0784d7a4716f3feb4f64e7f4b39bf04")
def probe():
 agreed = libcrypto.public_key(_OURS) == _OUR_PUBLIC_KEY and libcrypto.shared_secret(_OURS, _THEIRS) == _SHARED
 sealed = libcrypto.seal(_KEY, _NONCE, _SHARED)
 sound = libcrypto.seal(_KEY, _NONCE, b"") == _TAG and libcrypto.unseal(_KEY, _NONCE, sealed) == _SHARED
 changed = bytes([sealed[0] ^ 1, *sealed[1:]])
 if not (agreed and sound and libcrypto.unseal(_KEY, _NONCE, changed) is None):
  raise LibcryptoError(
   "archives cannot be encrypted: the libcrypto of this image's Python gives wrong answers", libcrypto.REMEDY
  )
