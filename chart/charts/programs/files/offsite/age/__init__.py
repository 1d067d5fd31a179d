# Without comments: they are in the project's file of this name.
from offsite.age.errors import AgeError, HeaderError, KeyFormatError, MacError, NoMatchError, PayloadError
from offsite.age.keys import Identity, Recipient, parse_identities
from offsite.age.probe import probe
from offsite.age.stream import decrypted, encrypted, encrypted_size
__all__ = [
 "AgeError",
 "HeaderError",
 "Identity",
 "KeyFormatError",
 "MacError",
 "NoMatchError",
 "PayloadError",
 "Recipient",
 "decrypted",
 "encrypted",
 "encrypted_size",
 "parse_identities",
 "probe",
]
