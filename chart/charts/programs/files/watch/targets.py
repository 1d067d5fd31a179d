# Without comments: they are in the project's file of this name.
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from watch.notices import BEGUN, RECOVERED, TEST, Notice, Place, text, title
from watch.problems import CRITICAL, INFO, SEVERITY, VOLUME, WATCHER
WEBHOOK, NTFY, SLACK, ALERTMANAGER = "webhook", "ntfy", "slack", "alertmanager"
TARGETS = (WEBHOOK, NTFY, SLACK, ALERTMANAGER)
RESENT = frozenset({ALERTMANAGER})
RESEND_AFTER = timedelta(seconds=60)
_ALIVE = timedelta(minutes=5)
_NTFY_BYTES = 4000
_SLACK_CHARACTERS = 1900
_TEXT_CHARACTERS = 10_000
_MOST = 100
_TEST = "CnpgBackupTest"
_JSON = "application/json"
@dataclass(frozen=True, slots=True)
class Post:
 url: str
 body: bytes
 headers: Mapping[str, str] = field(default_factory=dict)
def post_to(target, url, notice, place, now):
 plain, headers = _login(url)
 document: Any
 if target == NTFY:
  plain, document = _ntfy(plain, notice, place)
 elif target == SLACK:
  document = {"text": _slack(f"*{title(notice, place)}*\n{text(notice, place, _SLACK_CHARACTERS - 250)}")}
 elif target == ALERTMANAGER:
  plain, document = _below(plain, "api/v2/alerts"), _alerts(notice, place, now)
 else:
  document = _webhook(notice, place, now)
 body = json.dumps(document).encode()
 return Post(plain, body, {"Content-Type": _JSON, **headers})
def _login(url):
 parts = urlsplit(url.strip())
 login, at, host = parts.netloc.rpartition("@")
 if not at:
  return urlunsplit(parts), {}
 code = base64.b64encode(unquote(login if ":" in login else f"{login}:").encode()).decode()
 return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {code}"}
def _below(url, path):
 parts = urlsplit(url)
 before = parts.path.rstrip("/").removesuffix("/api/v2/alerts")
 return urlunsplit(parts._replace(path=f"{before}/{path}"))
def _webhook(notice, place, now):
 named = [*notice.begun, *notice.reminded]
 return {
  "schema": 1,
  "event": notice.event,
  "at": _time(now),
  "namespace": place.namespace,
  "release": place.release,
  "cluster": place.cluster,
  "title": title(notice, place),
  "text": text(notice, place, _TEXT_CHARACTERS),
  "summary": notice.summary,
  "page": place.url,
  "problems": [
   {
    "subject": problem.subject,
    "alert": problem.alert,
    "severity": problem.severity,
    "what": problem.what,
    "facts": list(problem.facts),
    "since": _time(since),
    "new": number < len(notice.begun),
    "runbook": place.runbook(problem.alert),
   }
   for number, (problem, since) in enumerate(named[:_MOST])
  ],
  "recovered": [name for name, _ in notice.recovered[:_MOST]],
  "more": max(len(named) - _MOST, 0) + max(len(notice.recovered) - _MOST, 0),
 }
def _ntfy(url, notice, place):
 parts = urlsplit(url)
 folder, _, topic = parts.path.rstrip("/").rpartition("/")
 worst = notice.worst
 severity = worst.severity if worst is not None else INFO
 tags = {TEST: "wrench", RECOVERED: "white_check_mark"}.get(notice.event)
 document: dict[str, Any] = {
  "topic": unquote(topic),
  "title": title(notice, place),
  "message": _cut(text(notice, place, _NTFY_BYTES), _NTFY_BYTES),
  "priority": 5 if severity == CRITICAL and notice.event == BEGUN else 3,
  "tags": [tags or ("rotating_light" if severity == CRITICAL else "warning")],
 }
 if place.url:
  document["click"] = place.url
 return urlunsplit(parts._replace(path=f"{folder}/")), document
def _cut(found, most):
 return found.encode(errors="replace")[:most].decode(errors="ignore")
def _slack(found):
 for before, after in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
  found = found.replace(before, after)
 return found[:_SLACK_CHARACTERS]
def _alerts(notice, place, now):
 ends = now + _ALIVE
 if notice.event == TEST:
  return [_alert(_TEST, "", "This is a test message.", now, now + RESEND_AFTER, place)]
 alerts = [
  _alert(one.alert, one.subject, f"{one.subject} {one.what}. {' '.join(one.facts)}".strip(), since, ends, place)
  for one, since in (*notice.begun, *notice.reminded)
 ]
 return alerts + [
  _alert(told.alert, name, f"{name} has no problem any more.", told.since, now, place)
  for name, told in notice.recovered
 ]
def _alert(name, subject, sentence, starts, ends, place):
 severity = SEVERITY.get(name, INFO)
 labels = {"alertname": name, "severity": severity, "namespace": place.namespace, "release": place.release}
 labels |= {} if subject in ("", VOLUME, WATCHER) else {"database": subject}
 labels |= {"cluster": place.cluster} if place.cluster else {}
 annotations = {"summary": sentence, "description": f"{sentence}\nTo see more: {place.command()}"}
 annotations |= {"runbook_url": place.runbook(name)} if place.runbooks and name in SEVERITY else {}
 alert = {"labels": labels, "annotations": annotations, "startsAt": _time(starts), "endsAt": _time(ends)}
 return {**alert, "generatorURL": place.url} if place.url else alert
def _time(moment):
 return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
def test_notice(summary):
 return Notice(TEST, summary=summary)
