# Without comments: they are in the project's file of this name.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from retention.text import shown
from watch.problems import RANK, Problem, moment
BEGUN, RECOVERED, REMINDER, TEST = "problem", "recovery", "reminder", "test"
@dataclass(frozen=True, slots=True)
class Told:
 alert: str
 since: datetime
 sent: datetime | None = None
 @property
 def rank(self):
  return RANK[self.alert]
State = Mapping[str, Told]
@dataclass(frozen=True, slots=True)
class Place:
 namespace: str
 release: str
 cluster: str = ""
 url: str = ""
 runbooks: str = ""
 def text(self):
  where = f", cluster {self.cluster}" if self.cluster else ""
  return f"release {self.release} in namespace {self.namespace}{where}"
 def short(self):
  where = f"{self.cluster}: " if self.cluster else ""
  return f"{where}{self.namespace}/{self.release}"
 def runbook(self, alert):
  return f"{(self.runbooks or 'docs/runbooks').rstrip('/')}/{alert}.md"
 def command(self):
  return f"kubectl cnpg-backup status -n {self.namespace} --release {self.release}"
@dataclass(frozen=True, slots=True)
class Notice:
 event: str
 begun: Sequence[tuple[Problem, datetime]] = ()
 recovered: Sequence[tuple[str, Told]] = ()
 reminded: Sequence[tuple[Problem, datetime]] = ()
 summary: str = ""
 subjects: frozenset[str] = frozenset()
 @property
 def worst(self):
  return next((problem for problem, _ in (*self.begun, *self.reminded)), None)
def due(
 state,
 problems,
 now,
 remind_after,
 *,
 subjects,
 summary,
):
 seen = dict(state)
 begun, known = [], []
 for problem in problems:
  before = state.get(problem.subject)
  told = Told(problem.alert, now) if before is None else before
  if before is not None and before.sent is None:
   told = replace(told, alert=problem.alert)
  seen[problem.subject] = told
  if told.sent is not None and problem.rank >= told.rank:
   known.append((problem, told.since))
  elif now - told.since >= problem.after:
   begun.append((problem, told.since))
 current = {problem.subject for problem in problems}
 over = [name for name in state if name not in current] if subjects is not None else []
 recovered = [(name, state[name]) for name in sorted(over) if state[name].sent is not None]
 for name in over:
  if state[name].sent is None:
   del seen[name]
 sent = (state[problem.subject].sent for problem, _ in known)
 reminded = known if any(at is not None and now - at >= remind_after for at in sent) else []
 if not (begun or recovered or reminded):
  return None, seen, seen
 event = BEGUN if begun else RECOVERED if recovered else REMINDER
 notice = Notice(event, begun, recovered, reminded, summary, subjects or frozenset())
 after = {name: told for name, told in seen.items() if name not in over}
 for problem, since in (*begun, *reminded):
  after[problem.subject] = Told(problem.alert, since, now)
 return notice, seen, after
def title(notice, place):
 many = len(notice.begun) + len(notice.reminded)
 worst = notice.worst
 if notice.event == TEST:
  text = "test message: notifications arrive"
 elif worst is None:
  names = [name for name, _ in notice.recovered]
  text = f"the problem of {names[0]} is over" if len(names) == 1 else f"{len(names)} problems are over"
 elif many == 1:
  text = f"{'still: ' if notice.event == REMINDER else ''}{worst.subject} {worst.what}"
 else:
  text = f"{many} problems{' are still there' if notice.event == REMINDER else ''}; the worst: {worst.subject}"
 line = shown(f"Backups of {place.short()}: {text}")
 return line if len(line) <= 200 else f"{line[:199]}…"
def text(notice, place, most):
 head = f"This is about the database backups (cnpg-backup) of {place.text()}."
 foot = [line for line in (notice.summary and f"{notice.summary}.", f"To see more: {place.command()}") if line]
 foot += [f"Page: {place.url}"] if place.url else []
 blocks = []
 if notice.event == TEST:
  blocks.append("Somebody asked for this test message. Nothing is wrong, and nothing needs to be done.")
 blocks += [_block("PROBLEM", *one, place) for one in notice.begun]
 blocks += [_block(f"STILL A PROBLEM since {moment(one[1])}", *one, place) for one in notice.reminded]
 blocks += [f"OVER: {_over(name, notice)}" for name, _ in notice.recovered]
 room = most - len(head) - sum(map(len, foot)) - len(foot) - 60
 kept: list[str] = []
 for number, block in enumerate(blocks):
  if len(block) + 2 > room:
   kept += [f"{block[: max(room, 40)]}…"] if not kept else []
   left = len(blocks) - max(number, 1)
   kept += [f"… and {left} more."] if left else []
   break
  kept.append(block)
  room -= len(block) + 2
 return "\n\n".join([head, *kept, "\n".join(map(shown, foot))])[:most]
def _over(name, notice):
 gone = name not in notice.subjects
 return shown(f"{name} is not backed up by this release any more." if gone else f"{name} has no problem any more.")
def _block(label, problem, since, place):
 what = problem.what if len(problem.what) <= 400 else f"{problem.what[:399]}…"
 lines = [f"{label}: {problem.subject} {what}", *(f"  {fact}" for fact in problem.facts)]
 lines += [] if label != "PROBLEM" else [f"  Seen since: {moment(since)}."]
 whose = "" if place.runbooks else " of the cnpg-backup project"
 lines.append(f"  What to do: {place.runbook(problem.alert)}{whose}")
 return "\n".join(map(shown, lines))
def to_json(states, fleeting = frozenset()):
 return {
  target: {
   name: [
    told.alert,
    told.since.isoformat(),
    None if told.sent is None or target in fleeting else told.sent.isoformat(),
   ]
   for name, told in sorted(state.items())
  }
  for target, state in sorted(states.items())
 }
def from_json(found):
 try:
  return {
   str(target): {
    str(name): Told(alert, _moment(since), None if sent is None else _moment(sent))
    for name, (alert, since, sent) in state.items()
    if alert in RANK
   }
   for target, state in found.items()
  }
 except (ValueError, TypeError, AttributeError, OverflowError):
  return {}
def _moment(text):
 at = datetime.fromisoformat(text)
 if at.tzinfo is None:
  raise ValueError(text)
 return at.astimezone(UTC)
