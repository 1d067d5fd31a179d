"""What can be wrong with a key or an encrypted file. No text contains a secret."""

from retention.errors import ConfigError, RetentionError


class AgeError(RetentionError):
    """An encrypted file cannot be decrypted."""


class HeaderError(AgeError):
    """The file does not begin as an age file does."""


class NoMatchError(AgeError):
    """The file is sound so far, but for none of the given identities."""


class MacError(AgeError):
    """The header was changed after it was written."""


class PayloadError(AgeError):
    """The content is damaged, truncated, or followed by something else."""


class KeyFormatError(ConfigError):
    """A recipient or an identity is not one."""


class LibcryptoError(RetentionError):
    """The image's libcrypto lacks something, or refuses an operation."""
