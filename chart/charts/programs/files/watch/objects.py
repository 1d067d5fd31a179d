# Without comments: they are in the project's file of this name.
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from retention import message
from retention.message import DrillMessage, Message
Object = Mapping[str, Any]
COMPONENT_LABEL = "app.kubernetes.io/component"
BACKUP, DRILL, OFFSITE = "backup", "drill", "offsite"
_CONFIG_VOLUME = "config"
_CONF_SUFFIX = ".conf"
_ONLY = "BACKUP_ONLY"
RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"
@dataclass(frozen=True, slots=True)
class CronJob:
 name: str
 uid: str
 component: str
 schedule: str
 time_zone: str
 suspended: bool
 last_schedule: datetime | None
 claim: str
@dataclass(frozen=True, slots=True)
class Run:
 job: str
 uid: str
 cronjob: str
 component: str
 state: str
 started: datetime | None
 finished: datetime | None
 databases: frozenset[str] | None
 config: str
 message: Message | None
 drills: DrillMessage | None
 reason: str
def read_cronjobs(items):
 found = []
 for item in items:
  metadata, spec = dig(item, "metadata"), dig(item, "spec")
  pod = dig(spec, "jobTemplate", "spec", "template", "spec")
  component = dig(metadata, "labels").get(COMPONENT_LABEL)
  found.append(
   CronJob(
    str(metadata.get("name") or ""),
    str(metadata.get("uid") or ""),
    str(component or dig(spec, "jobTemplate", "metadata", "labels").get(COMPONENT_LABEL) or ""),
    str(spec.get("schedule") or ""),
    str(spec.get("timeZone") or "Etc/UTC"),
    bool(spec.get("suspend")),
    parse_time(dig(item, "status").get("lastScheduleTime")),
    _claim(pod),
   )
  )
 return sorted(found, key=lambda cronjob: cronjob.name)
def read_runs(jobs, pods, cronjobs):
 owners = {cronjob.uid: cronjob for cronjob in cronjobs if cronjob.uid}
 by_job: dict[str, list[Object]] = {}
 for pod in pods:
  by_job.setdefault(_controller(pod, "Job"), []).append(pod)
 found = []
 for job in jobs:
  cronjob = owners.get(_controller(job, "CronJob"))
  spec = dig(job, "spec", "template", "spec")
  uid = str(dig(job, "metadata").get("uid") or "")
  if cronjob is None or not uid or _claim(spec) != cronjob.claim:
   continue
  own = [pod for pod in by_job.get(uid, ()) if _claim(dig(pod, "spec")) == cronjob.claim]
  found.append(_run(job, uid, cronjob, sorted(own, key=_created)))
 last = datetime.max.replace(tzinfo=UTC)
 return sorted(found, key=lambda run: (run.finished or last, run.uid))
def _run(job, uid, cronjob, pods):
 status, spec = dig(job, "status"), dig(job, "spec", "template", "spec")
 ended = next(
  (
   one
   for one in _list(status.get("conditions"))
   if one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
  ),
  None,
 )
 state = RUNNING if ended is None else SUCCEEDED if ended["type"] == "Complete" else FAILED
 finished = None
 if ended is not None:
  finished = parse_time(status.get("completionTime")) or parse_time(ended.get("lastTransitionTime"))
  finished = finished or parse_time(status.get("startTime"))
 code, text, reason = _termination(pods[-1], _containers(spec)) if pods else (None, "", "")
 heard = message.read(text) if text and cronjob.component in (BACKUP, OFFSITE) else None
 drills = message.read_drills(text) if text and cronjob.component == DRILL else None
 if drills is not None and not (drills.drills or drills.counts):
  reason, drills = reason or text.splitlines()[0], None
 if heard is not None and not (heard.lines or heard.counts):
  reason, heard = reason or text.splitlines()[0], None
 if state == SUCCEEDED and code not in (0, None):
  heard = drills = None
 if state == FAILED and not reason and ended is not None:
  reason = ": ".join(str(ended[key]) for key in ("reason", "message") if ended.get(key))
 name = str(dig(job, "metadata").get("name") or "")
 started = parse_time(status.get("startTime"))
 return Run(
  name, uid, cronjob.name, cronjob.component, state, started, finished,
  _limited_to(spec), _config(spec), heard, drills, reason,
 )
def _termination(pod, own):
 status, code, text = dig(pod, "status"), None, ""
 if status.get("reason"):
  return None, "", ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
 for one in (*_list(status.get("initContainerStatuses")), *_list(status.get("containerStatuses"))):
  ended = dig(one, "state", "terminated")
  if not ended or one.get("name") not in own:
   continue
  code, text = int(ended.get("exitCode") or 0), str(ended.get("message") or "")
  reason = str(ended.get("reason") or "")
  if code and reason not in ("", "Error", "Completed"):
   return code, "", f"container {one.get('name')} ended with {reason}"
  if code:
   break
 return code, text, ""
def _containers(spec):
 every = (*_list(spec.get("initContainers")), *_list(spec.get("containers")))
 return frozenset(str(one.get("name")) for one in every if one.get("restartPolicy") != "Always")
def _limited_to(spec):
 limits = []
 for volume in _list(spec.get("volumes")):
  items = _list(dig(volume, "configMap").get("items"))
  if volume.get("name") == _CONFIG_VOLUME and items:
   keys = [str(item.get("key")) for item in items]
   limits.append(frozenset(key.removesuffix(_CONF_SUFFIX) for key in keys if key.endswith(_CONF_SUFFIX)))
 for container in (*_list(spec.get("initContainers")), *_list(spec.get("containers"))):
  for variable in _list(container.get("env")):
   if variable.get("name") == _ONLY and variable.get("value"):
    limits.append(frozenset(str(variable["value"]).split()))
 return frozenset().union(*limits) if limits else None
def _config(spec):
 volumes = (one for one in _list(spec.get("volumes")) if one.get("name") == _CONFIG_VOLUME)
 return next((str(dig(one, "configMap").get("name") or "") for one in volumes), "")
def _claim(spec):
 claims = (dig(volume, "persistentVolumeClaim").get("claimName") for volume in _list(spec.get("volumes")))
 return next((str(claim) for claim in claims if claim), "")
def _controller(item, kind):
 for owner in _list(dig(item, "metadata").get("ownerReferences")):
  if owner.get("kind") == kind and owner.get("controller"):
   return str(owner.get("uid") or "")
 return ""
def _created(item):
 return str(dig(item, "metadata").get("creationTimestamp") or "")
def _list(found):
 return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
def dig(item, *path):
 for step in path:
  item = item.get(step) if isinstance(item, Mapping) else None
 return item if isinstance(item, Mapping) else {}
def parse_time(text):
 if not isinstance(text, str):
  return None
 try:
  moment = datetime.fromisoformat(text)
 except ValueError:
  return None
 return None if moment.tzinfo is None else moment.astimezone(UTC)
