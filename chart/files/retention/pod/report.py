# Comments are left out here; they are in retention/pod/report.py of the project.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from retention.errors import ExitCode, RetentionError
from retention.pod import outlook
from retention.rule.backup import Backup
from retention.rule.decide import Delete
from retention.rule.policy import Limits, Policy
from retention.text import shown, table

ALLOW_FLAG = "--allow-large-prune"
ALLOW_VALUE = "allowLargePrune"

REFUSAL_REMEDY = (
    "nothing was deleted; run `plan` to see what would be deleted. A changed policy is the usual cause: if you want "
    f"this, prune with {ALLOW_FLAG}, or set {ALLOW_VALUE}: true for this database until it is done"
)

TERMINATION_BYTES = 4096

OK, WARNING, REFUSED, FAILED = "ok", "warning", "refused", "failed"


@dataclass(slots=True)
class RunOutcome:

    database: str
    cluster: str = ""
    namespace: str = ""
    published: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    deleted: list[Delete] = field(default_factory=list)
    backups: list[Backup] | None = None
    bad: list[str] = field(default_factory=list)
    problems: list[RetentionError] = field(default_factory=list)
    refusal: RetentionError | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    kept_by: tuple[Policy, Limits] | None = None
    restore: dict[str, Any] | None = None

    @property
    def result(self) -> str:
        if self.problems:
            return FAILED
        if self.refusal is not None:
            return REFUSED
        return WARNING if self.warnings else OK

    def newest(self, now: datetime) -> Backup | None:
        return next((backup for backup in self.backups or () if backup.time <= now), None)

    def why(self) -> str:
        if self.problems:
            return self.problems[0].problem
        if self.refusal is not None:
            return self.refusal.problem
        return (self.warnings or self.notes or ["nothing new"])[0]


def exit_code(outcomes: Iterable[RunOutcome]) -> ExitCode:
    results = {outcome.result for outcome in outcomes}
    if FAILED in results:
        return ExitCode.FAILED
    return ExitCode.REFUSED if REFUSED in results else ExitCode.DONE


def finish_table(outcomes: Sequence[RunOutcome], now: datetime) -> str:
    rows = []
    for outcome in outcomes:
        newest = outcome.newest(now)
        rows.append(
            (
                outcome.database,
                outcome.result,
                f"{newest.time:%Y-%m-%d %H:%M:%S}Z" if newest else "none",
                "?" if outcome.backups is None else str(len(outcome.backups)),
                str(len(outcome.deleted)),
                f"{outcome.seconds:.1f}",
                outcome.why(),
            )
        )
    return table(("DATABASE", "RESULT", "NEWEST", "KEPT", "DELETED", "SECONDS", "WHY"), rows)


def termination_message(outcomes: Sequence[RunOutcome], warnings: Sequence[str], now: datetime) -> bytes:
    order = {FAILED: 0, REFUSED: 1, WARNING: 2, OK: 3}
    ranked = sorted(outcomes, key=lambda outcome: order[outcome.result])
    failed = sum(outcome.result == FAILED for outcome in outcomes)
    lines = [f"{failed} of {len(outcomes)} databases failed" if failed else f"{len(outcomes)} databases done"]
    lines += warnings
    for outcome in ranked:
        newest = outcome.newest(now)
        age = f"newest {newest.time:%Y-%m-%d %H:%M}Z" if newest else "no backup"
        lines.append(f"{outcome.database} {outcome.result} ({age}): {outcome.why()}")
    for outcome in ranked:
        if text := outlook.sentence(outcome.restore, remedies=False):
            lines.append(f"{outcome.database}: {text}")
    return cut("\n".join(map(shown, lines)).encode(errors="replace"))


def cut(content: bytes) -> bytes:
    if len(content) <= TERMINATION_BYTES:
        return content
    ellipsis = "…".encode()
    return content[: TERMINATION_BYTES - len(ellipsis)].decode(errors="ignore").encode() + ellipsis
