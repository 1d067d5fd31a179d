# Without comments: they are in the project's file of this name.
from retention.errors import ConfigError, RetentionError
class AgeError(RetentionError):
 pass
class HeaderError(AgeError):
 pass
class NoMatchError(AgeError):
 pass
class MacError(AgeError):
 pass
class PayloadError(AgeError):
 pass
class KeyFormatError(ConfigError):
 pass
class LibcryptoError(RetentionError):
 pass
