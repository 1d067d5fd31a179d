# Without comments: they are in the project's file of this name.
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from offsite.age import Recipient
from offsite.remote.rclone import Destination
from offsite.rule import names
from offsite.rule.parts import MOST_PARTS
from retention.errors import ConfigError, PolicyError
from retention.keyvalue import KeyValues, parse
from retention.pod.config import read_text
from retention.rule.policy import Limits, Policy
from retention.text import parse_duration, parse_moment
FILE = "offsite.conf"
AUTO, ETAG, READBACK = "auto", "etag", "readback"
TIERS, NEWEST = "tiers", "newest"
_RENDER_AGAIN = "render the chart again: it writes every key"
_OTHER_ETAGS = frozenset(
 {
  "Alibaba", "BizflyCloud", "Cloudflare", "Cubbit", "Fastly", "FileLu", "HCP", "IBMCOS", "Infomaniak", "Liara",
  "LyveCloud", "Magalu", "Mega", "Netease", "Qiniu", "RackCorp", "Rclone", "SeaweedFS", "Synology", "TencentCOS",
  "Zata", "us3",
 }
)
_MOST_DAYS = 3650
_STORE_SUMS = frozenset({"s3"})
@dataclass(frozen=True, slots=True)
class Settings:
 destination: Destination
 cluster_id: str
 owner: str
 recipients: tuple[Recipient, ...]
 most_parts: int
 reads_back: bool
 readback_every: timedelta | None
 newest: bool
 prune: bool
 allow_shrunk: bool
 allow_large_prune: bool
 accept_loss_until: datetime | None
 limits: Limits
 seconds: int
 chart_version: str
def read_settings(directory, socket):
 path = directory / FILE
 values = parse(read_text(path), str(path))
 cluster_id = _text(values, "cluster_id")
 if not names.is_cluster_id(cluster_id):
  raise ConfigError(f"{path}: cluster_id is {cluster_id!r}", "give small letters, digits and hyphens")
 kind, etags = _text(values, "type"), _etags(values)
 remote_path = _text(values, "path").rstrip("/")
 remote_path = remote_path.lstrip("/") if kind in _STORE_SUMS else remote_path
 if not remote_path or "]" in remote_path or not remote_path.isprintable():
  raise ConfigError(f"{path}: path is {remote_path!r}", "give bucket and prefix, or a folder, without `]`")
 destination = Destination(socket, kind, remote_path, etags=etags, lock=_lock(values))
 return Settings(
  destination=destination,
  cluster_id=cluster_id,
  owner=_text(values, "owner"),
  recipients=_recipients(values),
  most_parts=_number(values, "max_parts") or MOST_PARTS,
  reads_back=not etags,
  readback_every=_duration(values, "readback_every"),
  newest=_newest(values),
  prune=_choice(values, "prune"),
  allow_shrunk=_choice(values, "allow_shrunk"),
  allow_large_prune=_choice(values, "allow_large_prune"),
  accept_loss_until=_moment(values, "accept_loss_until"),
  limits=_limits(values),
  seconds=_number(values, "timeout"),
  chart_version=values.text("chart_version"),
 )
def read_policy(directory, database):
 for name in (f"{database}.policy.json", "policy.json"):
  path = directory / name
  if path.exists():
   return Policy.from_json(read_text(path), str(path))
 raise ConfigError(f"{directory}: there is no policy.json in it", "render the chart again")
def _etags(values):
 wish = _text(values, "verify")
 if wish not in (AUTO, ETAG, READBACK):
  raise ConfigError(f"{values.source}: verify is {wish!r}", f"give one of {AUTO}, {ETAG}, {READBACK}")
 kind, provider = _text(values, "type"), values.text("provider")
 if wish == ETAG and kind not in _STORE_SUMS:
  raise ConfigError(f"{values.source}: verify is etag, and a {kind} computes no sums", "set offsite.verify: auto")
 if wish != AUTO:
  return wish == ETAG
 encrypted_there = values.text("server_side_encryption").startswith("aws:kms") or values.text("sse_customer_key_md5")
 return kind in _STORE_SUMS and provider not in _OTHER_ETAGS and not encrypted_there
def _newest(values):
 wish = _text(values, "copy")
 if wish not in (TIERS, NEWEST):
  raise ConfigError(f"{values.source}: copy is {wish!r}", f"give one of {TIERS}, {NEWEST}")
 return wish == NEWEST
def _lock(values):
 mode, days = values.require("object_lock_mode", _RENDER_AGAIN), _number(values, "object_lock_days")
 if not mode:
  return {}
 if mode not in ("GOVERNANCE", "COMPLIANCE"):
  raise ConfigError(f"{values.source}: object_lock_mode is {mode!r}", "give one of GOVERNANCE, COMPLIANCE")
 if values.text("type") not in _STORE_SUMS:
  raise ConfigError(
   f"{values.source}: a {values.text('type')} has no object lock", "leave offsite.objectLock out"
  )
 if not 1 <= days <= _MOST_DAYS:
  raise ConfigError(f"{values.source}: object_lock_days is {days}", f"give 1 to {_MOST_DAYS}")
 return {"object_lock_mode": mode, "object_lock_retain_until_date": f"{24 * days}h"}
def _recipients(values):
 encryption, texts = _text(values, "encryption"), values.require("recipients", _RENDER_AGAIN).split()
 if encryption == "none":
  if texts:
   raise ConfigError(f"{values.source}: encryption is none, and there are recipients", "leave one of them out")
  return ()
 if encryption != "age":
  raise ConfigError(f"{values.source}: encryption is {encryption!r}", "give one of age, none")
 if not texts:
  raise ConfigError(
   f"{values.source}: there is no recipient",
   "set offsite.encryption.recipients to the public keys of those who may decrypt the copies",
  )
 try:
  recipients = tuple(dict.fromkeys(Recipient.parse(text) for text in texts))
 except ConfigError as error:
  raise ConfigError(f"{values.source}: {error.problem}", error.remedy) from None
 return recipients
def _limits(values):
 try:
  return Limits(_number(values, "large_prune_percent"), None, 1)
 except PolicyError as error:
  raise ConfigError(f"{values.source}: {error.problem}", error.remedy) from None
def _text(values, key):
 text = values.require(key, _RENDER_AGAIN)
 if not text:
  raise ConfigError(f"{values.source}: {key} is empty", _RENDER_AGAIN)
 return text
def _number(values, key):
 text, number = values.require(key, _RENDER_AGAIN), values.number(key)
 if number is None:
  raise ConfigError(f"{values.source}: {key} is {text!r}", "give a whole number")
 return number
def _choice(values, key):
 text = values.require(key, _RENDER_AGAIN)
 if text not in ("true", "false"):
  raise ConfigError(f"{values.source}: {key} is {text!r}", "give true or false")
 return text == "true"
def _duration(values, key):
 text = values.require(key, _RENDER_AGAIN)
 try:
  return parse_duration(text) if text else None
 except PolicyError as error:
  raise ConfigError(f"{values.source}: {key}: {error.problem}", error.remedy) from None
def _moment(values, key):
 text = values.require(key, _RENDER_AGAIN)
 moment = parse_moment(text) if text else None
 if text and moment is None:
  raise ConfigError(f"{values.source}: {key} is {text!r}", "give a date such as 2026-01-31, or leave it empty")
 return moment
