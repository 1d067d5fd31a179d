"""The options of the room, from the file that the chart writes: `offsite.conf`, `key=value` lines."""

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
)  # fmt: skip
"""Providers whose ETags of large objects are not the sums of the parts, by rclone's own list (1.76)."""

_MOST_DAYS = 3650
"""A COMPLIANCE lock cannot be taken back by anyone: a mistyped number must not last for a century."""

_STORE_SUMS = frozenset({"s3"})
"""Types whose stores compute sums themselves; all others are read back."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a run.

    Attributes:
        destination: Where copies go.
        cluster_id: The folder of this release there.
        owner: Who this release is, for others that copy to the same folder.
        recipients: Who can decrypt the copies; empty for no encryption.
        most_parts: How many parts an object may have.
        reads_back: Whether each copy is read back at once, since the store computes no sums.
        readback_every: How often the newest copy of each database is read back; None for never.
        newest: Whether each run copies the newest backup; otherwise one of each slot of the first tier.
        prune: Whether anything is deleted at the destination by the policy.
        allow_shrunk: Whether that goes on after an archive has shrunk.
        allow_large_prune: Whether large prunes may go ahead.
        accept_loss_until: Losses on the volume up to this moment are known; None for none.
        limits: The safety limits around the policy.
        seconds: How long a run may take.
        chart_version: For the markers.
    """

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


def read_settings(directory: Path, socket: str) -> Settings:
    """Return the options in a directory.

    Raises:
        ConfigError: Naming the key and what it should be.
    """
    path = directory / FILE
    values = parse(read_text(path), str(path))
    cluster_id = _text(values, "cluster_id")
    if not names.is_cluster_id(cluster_id):
        raise ConfigError(f"{path}: cluster_id is {cluster_id!r}", "give small letters, digits and hyphens")
    kind, etags = _text(values, "type"), _etags(values)
    # A server of files may have folders outside the user's home.
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


def read_policy(directory: Path, database: str) -> Policy:
    """Return the policy of the destination for one database: its own, or the common one.

    Raises:
        ConfigError: When there is none, or it is wrong.
    """
    for name in (f"{database}.policy.json", "policy.json"):
        path = directory / name
        if path.exists():
            return Policy.from_json(read_text(path), str(path))
    raise ConfigError(f"{directory}: there is no policy.json in it", "render the chart again")


def _etags(values: KeyValues) -> bool:
    """Return whether the store's own sums prove that an upload arrived."""
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


def _newest(values: KeyValues) -> bool:
    wish = _text(values, "copy")
    if wish not in (TIERS, NEWEST):
        raise ConfigError(f"{values.source}: copy is {wish!r}", f"give one of {TIERS}, {NEWEST}")
    return wish == NEWEST


def _lock(values: KeyValues) -> dict[str, str]:
    """Return rclone's options for the lock of what is written; nothing for none."""
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


def _recipients(values: KeyValues) -> tuple[Recipient, ...]:
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


def _limits(values: KeyValues) -> Limits:
    try:
        return Limits(_number(values, "large_prune_percent"), None, 1)
    except PolicyError as error:
        raise ConfigError(f"{values.source}: {error.problem}", error.remedy) from None


def _text(values: KeyValues, key: str) -> str:
    text = values.require(key, _RENDER_AGAIN)
    if not text:
        raise ConfigError(f"{values.source}: {key} is empty", _RENDER_AGAIN)
    return text


def _number(values: KeyValues, key: str) -> int:
    text, number = values.require(key, _RENDER_AGAIN), values.number(key)
    if number is None:
        raise ConfigError(f"{values.source}: {key} is {text!r}", "give a whole number")
    return number


def _choice(values: KeyValues, key: str) -> bool:
    text = values.require(key, _RENDER_AGAIN)
    if text not in ("true", "false"):
        raise ConfigError(f"{values.source}: {key} is {text!r}", "give true or false")
    return text == "true"


def _duration(values: KeyValues, key: str) -> timedelta | None:
    text = values.require(key, _RENDER_AGAIN)
    try:
        return parse_duration(text) if text else None
    except PolicyError as error:
        raise ConfigError(f"{values.source}: {key}: {error.problem}", error.remedy) from None


def _moment(values: KeyValues, key: str) -> datetime | None:
    text = values.require(key, _RENDER_AGAIN)
    moment = parse_moment(text) if text else None
    if text and moment is None:
        raise ConfigError(f"{values.source}: {key} is {text!r}", "give a date such as 2026-01-31, or leave it empty")
    return moment
