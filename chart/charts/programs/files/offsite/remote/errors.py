# Without comments: they are in the project's file of this name.
import re
from typing import Final
from retention.errors import RetentionError, UsageError
class RemoteError(RetentionError):
 pass
class TakenError(RemoteError):
 pass
class MissingError(RemoteError):
 pass
class DeniedError(RemoteError):
 pass
class UnknownError(RemoteError):
 pass
class CarrierError(RemoteError):
 pass
_OTHER_ETAGS = "offsite.verify: readback"
_KNOWN: Final[tuple[tuple[str, type[RemoteError], str, str], ...]] = (
 ("PreconditionFailed|StatusCode: 412", TakenError, "the name is taken", ""),
 (
  "InvalidAccessKeyId|NoSuchAccessKey",
  DeniedError,
  "the store does not know the access key",
  "check access_key_id in the Secret of offsite.secretName",
 ),
 (
  "SignatureDoesNotMatch",
  DeniedError,
  "the store does not accept the secret key",
  "check secret_access_key in the Secret of offsite.secretName, and region and provider in offsite.remote",
 ),
 (
  "RequestTimeTooSkewed",
  DeniedError,
  "this node's clock differs from the store's by more than the store accepts",
  "set the clock of the node right",
 ),
 ("ExpiredToken|TokenRefreshRequired", DeniedError, "the credentials have expired", "renew them"),
 (
  "protected by object lock|ObjectLocked|InvalidRequest.*retention",
  DeniedError,
  "the object is locked",
  "wait until its lock ends",
 ),
 (
  "Etag differ",
  RemoteError,
  "what the store has is not what was sent, or its ETags are not sums of the parts",
  f"if this happens each time, set {_OTHER_ETAGS}",
 ),
 (
  "AccessDenied|StatusCode: 403|Forbidden|permission denied|SSH_FX_PERMISSION_DENIED|401 Unauthorized",
  DeniedError,
  "the credentials lack the right to do this",
  "check that the Secret of offsite.secretName has all keys of offsite.secretKeys, and that they may list, "
  "read and write below offsite.path",
 ),
 (
  "unable to authenticate|ssh: handshake failed",
  DeniedError,
  "the SSH server does not accept the login, or is not the one in known_hosts",
  "check the user, the key and known_hosts in the Secret of offsite.secretName",
 ),
 (
  "NoSuchBucket|bucket does not exist",
  MissingError,
  "there is no such bucket",
  "make it, or correct offsite.path; the region has to be the bucket's",
 ),
 (
  "directory not found|object not found|NoSuchKey|file does not exist|StatusCode: 404",
  MissingError,
  "there is no such object",
  "",
 ),
 (
  "InsufficientStorage|StatusCode: 507|507 Insufficient|QuotaExceeded|quota exceeded|no space left|disk full"
  "|StorageFull",
  RemoteError,
  "the destination is full",
  "free space there, raise its quota, or keep less (offsite.retention)",
 ),
 ("NotImplemented|StatusCode: 501", UnknownError, "the store does not know this operation", ""),
 (
  "EntityTooLarge|TooManyParts|maximum number of parts|InvalidArgument.*[Pp]art",
  RemoteError,
  "the store does not take that many or that large parts",
  "set offsite.maxParts to what it takes (Scaleway: 1000)",
 ),
 (
  "no such host",
  RemoteError,
  "the name of the destination is not known",
  "check endpoint or host in offsite.remote, and whether the NetworkPolicy lets DNS through",
 ),
 (
  "x509|certificate|tls: ",
  RemoteError,
  "the destination's certificate is not accepted",
  "add its authority (offsite.caBundle), or correct endpoint in offsite.remote",
 ),
 (
  "connection refused|network is unreachable|no route to host|timeout|deadline exceeded|connection reset"
  "|broken pipe|EOF",
  RemoteError,
  "the destination does not answer",
  "check that it runs, and that offsite.egress names its addresses",
 ),
 (
  "SlowDown|ServiceUnavailable|StatusCode: 50[03]|TooManyRequests|InternalError|500 Internal|502 Bad|503 Service",
  RemoteError,
  "the destination has a fault, or is overloaded",
  "nothing, if the next run succeeds; otherwise ask whoever runs it",
 ),
 (
  "didn't find section in config file|didn't find backend",
  RemoteError,
  "rclone does not know the destination",
  "check type in offsite.remote",
 ),
)
_PATTERNS: Final = tuple((re.compile(pattern), kind, sentence, remedy) for pattern, kind, sentence, remedy in _KNOWN)
_REQUEST_IDS: Final = re.compile(r",? ?(?:RequestID|HostID): [^,]*")
_MOST = 300
def explain(what, text):
 line = shortened(text)
 for pattern, kind, sentence, remedy in _PATTERNS:
  if pattern.search(text):
   return kind(f"{what}: {sentence} ({line})", remedy)
 return RemoteError(f"{what}: {line or 'it failed without a reason'}", "see the log of the container rclone")
def shortened(text):
 line = " ".join(_REQUEST_IDS.sub("", text).split())
 line = "".join(char if char.isprintable() else "?" for char in line)
 return line if len(line) <= _MOST else f"{line[: _MOST - 1]}…"
class SettingsError(UsageError):
 pass
