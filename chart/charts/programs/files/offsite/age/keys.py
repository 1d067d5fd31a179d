# Without comments: they are in the project's file of this name.
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from offsite.age import bech32, header, libcrypto
from offsite.age.errors import HeaderError, KeyFormatError, MacError, NoMatchError
from offsite.age.header import Header, Stanza
FILE_KEY_LENGTH: Final = 16
_LENGTH = 32
_TYPE = "X25519"
_INFO = b"age-encryption.org/v1/X25519"
_WRAPPED_LENGTH = FILE_KEY_LENGTH + libcrypto.TAG_LENGTH
_NONCE = bytes(12)
_RECIPIENT_HELP = "give a public key that age-keygen has printed: age1 and 58 characters"
_IDENTITY_HELP = "give the file that age-keygen has written; its line begins with AGE-SECRET-KEY-1"
@dataclass(frozen=True, slots=True)
class Recipient:
 key: bytes
 @classmethod
 def parse(cls, text):
  if text.upper().startswith("AGE-SECRET-KEY-"):
   raise KeyFormatError("a recipient is a secret key", "give its public key, which `age-keygen -y` prints")
  try:
   prefix, key = bech32.decode(text)
  except ValueError as error:
   raise KeyFormatError(f"recipient {text!r}: {error}", _RECIPIENT_HELP) from None
  if prefix == "age" and text != text.lower():
   raise KeyFormatError(f"recipient {text!r} is not in lower case", _RECIPIENT_HELP)
  if prefix != "age" or len(key) != _LENGTH:
   raise KeyFormatError(f"recipient {text!r} is not an X25519 public key", _RECIPIENT_HELP)
  if libcrypto.shared_secret(os.urandom(_LENGTH), key) is None:
   raise KeyFormatError(f"recipient {text!r} is a key that protects nothing", _RECIPIENT_HELP)
  return cls(key)
 def __str__(self):
  return bech32.encode("age", self.key)
 def wrap(self, file_key):
  ephemeral = os.urandom(_LENGTH)
  share, secret = libcrypto.public_key(ephemeral), libcrypto.shared_secret(ephemeral, self.key)
  if secret is None:
   raise KeyFormatError(f"recipient {self} is a key that protects nothing", _RECIPIENT_HELP)
  key = libcrypto.derive(secret, share + self.key, _INFO)
  wrapped = libcrypto.seal(key, _NONCE, file_key)
  return Stanza((_TYPE, header.encode(share).decode()), wrapped)
@dataclass(frozen=True, slots=True)
class Identity:
 key: bytes = field(repr=False)
 @classmethod
 def parse(cls, text):
  try:
   prefix, key = bech32.decode(text)
  except ValueError as error:
   raise KeyFormatError(f"the identity is not a secret key: {error}", _IDENTITY_HELP) from None
  if prefix != "age-secret-key-" or len(key) != _LENGTH or text != text.upper():
   raise KeyFormatError("the identity is not an X25519 secret key", _IDENTITY_HELP)
  return cls(key)
 @property
 def recipient(self):
  return Recipient(libcrypto.public_key(self.key))
 def unwrap(self, stanza):
  share = _share_of(stanza)
  secret = libcrypto.shared_secret(self.key, share)
  if secret is None:
   raise HeaderError("the header of the age file is damaged: a recipient's share protects nothing", "")
  key = libcrypto.derive(secret, share + self.recipient.key, _INFO)
  return libcrypto.unseal(key, _NONCE, stanza.body)
def parse_identities(text):
 lines = [line.strip() for line in text.splitlines()]
 identities = tuple(Identity.parse(line) for line in lines if line and not line.startswith("#"))
 if not identities:
  raise KeyFormatError("there is no identity in it", _IDENTITY_HELP)
 return identities
def header_for(recipients, file_key):
 signed = header.signed_part([recipient.wrap(file_key) for recipient in recipients])
 return header.whole(signed, _mac(file_key, signed))
def header_length(recipients):
 stanza = Stanza((_TYPE, "A" * 43), bytes(_WRAPPED_LENGTH))
 return len(header.whole(header.signed_part([stanza] * recipients), bytes(_LENGTH)))
def file_key_of(parsed, identities):
 ours = [stanza for stanza in parsed.stanzas if stanza.type == _TYPE]
 for stanza in ours:
  _share_of(stanza)
 for stanza in ours:
  for identity in identities:
   file_key = identity.unwrap(stanza)
   if file_key is None:
    continue
   if not hmac.compare_digest(_mac(file_key, parsed.signed), parsed.mac):
    raise MacError(
     "the header of the age file was changed after it was written", "use another copy of the archive"
    )
   return file_key
 raise NoMatchError(
  f"the archive is encrypted for {len(parsed.stanzas)} recipients, and the identity is of none of them",
  "give the identity whose public key was in the values (offsite.encryption.recipients) at that time",
 )
def _share_of(stanza):
 if len(stanza.arguments) != 2 or len(stanza.body) != _WRAPPED_LENGTH:
  raise HeaderError("the header of the age file is damaged: a recipient has a wrong form", "")
 share = header.decode(stanza.arguments[1].encode())
 if len(share) != _LENGTH:
  raise HeaderError("the header of the age file is damaged: a recipient has a wrong form", "")
 return share
def _mac(file_key, signed):
 return hmac.digest(libcrypto.derive(file_key, b"", b"header"), signed, "sha256")
