"""The age format, with X25519 recipients: what leaves the cluster is encrypted here, for public keys alone.

The format is that of `c2sp.org/age`; `age -d` reads what this writes. All primitives are the image's libcrypto; only
the framing is ours. The layers, from below:

* `errors`, `bech32`, `header`: texts and bytes, no primitive.
* `libcrypto`: the primitives.
* `keys`: recipients, identities, and the key of one file.
* `stream`: encryption and decryption, piece by piece.
"""

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
