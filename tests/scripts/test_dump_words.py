"""What dump.sh makes of the words of PostgreSQL's programs: the remedy, another attempt, and what people read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.conftest import in_both_shells
from tests.scripts.stand_ins import PROGRAMS, StandIns


@pytest.fixture
def app(tmp_path: Path, shell: str) -> StandIns:
    pod = StandIns.make(tmp_path, shell)
    pod.add("app", retries="1")
    return pod


def fails(pod: StandIns, text: str, times: int = 9) -> None:
    """Let pg_dump fail with that text, so many times."""
    (pod.folder / "said").write_text(text)
    count = pod.folder / "count"
    pod.program(
        "pg_dump",
        f'if [ "$1" != --version ]; then echo >>{count}; [ $(wc -l <{count}) -gt {times} ] || '
        f"{{ cat {pod.folder}/said >&2; exit 1; }}; fi\n" + PROGRAMS["pg_dump"],
    )


@pytest.mark.parametrize(
    "text",
    [
        'pg_dump: error: query failed: ERROR:  relation "public.tmp_1" does not exist\n',
        'pg_dump: error: query failed: ERROR:  column "b" of relation "t" does not exist\n',
        "pg_dump: error: query failed: ERROR:  could not open relation with OID 16999\n",
        "pg_dump: error: query failed: SSL SYSCALL error: EOF detected\n",
        "pg_dump: error: query failed: SSL connection has been closed unexpectedly\n",
    ],
)
def test_what_another_attempt_cures_is_tried_again(app: StandIns, text: str) -> None:
    fails(app, text, times=1)
    log = app.dump()
    assert app.states() == ["staged"], log
    assert app.result("app")["attempts"] == "2"


@pytest.mark.parametrize(
    ("text", "remedy", "never"),
    [
        ('ERROR:  relation "public.tmp_1" does not exist', "dropped during the dump", "role's name"),
        ('FATAL:  role "x" does not exist', "role's name", "dropped"),
        ("SSL SYSCALL error: EOF detected", "connection was lost", "CA"),
        ("SSL connection has been closed unexpectedly", "connection was lost", "CA"),
        ("SSL error: certificate verify failed", "CA", "lost"),
        ("ERROR:  permission denied for large object 16401", "LARGE OBJECT", "pg_read_all_data"),
        ("ERROR:  invalid memory alloc request size 1200000003", "exclude-table-data", "last-error"),
        (
            "ERROR:  out of shared memory\nHINT:  You might need to increase it.",
            "max_locks_per_transaction",
            "last-error",
        ),
    ],
)
def test_remedy_fits_the_error(app: StandIns, text: str, remedy: str, never: str) -> None:
    fails(app, f"pg_dump: error: query failed: {text}\n")
    app.dump()
    result = app.result("app")
    assert app.states() == ["failed"]
    assert remedy in result["remedy"], result
    assert never not in result["remedy"], result


def test_grant_is_not_proposed_to_a_role_that_has_it(app: StandIns) -> None:
    app.program("psql", 'case "$*" in *foresee.sql) ;; *pg_has_role*) echo t ;; *) echo "170005|17.5|f|9000" ;; esac')
    fails(app, "pg_dump: error: query failed: ERROR:  permission denied for function f\n")
    app.dump()
    assert "does not give the backup role this right" in app.result("app")["remedy"]


@in_both_shells
def test_hint_is_shown_and_detail_is_not(app: StandIns) -> None:
    fails(
        app,
        "pg_dump: error: query failed: ERROR:  out of shared memory\nDETAIL:  Key (name)=(classified).\n"
        "HINT:  You might need to increase max_locks_per_transaction.\n",
    )
    log = app.dump()
    assert "max_locks_per_transaction" in app.result("app")["error"]
    assert "classified" not in log + app.result("app")["error"]


def test_gzip_is_used_only_after_pg_dumps_own_refusal(app: StandIns) -> None:
    fails(app, "pg_dump: error: query failed: ERROR:  permission denied for table compressed\n")
    assert "gzip" not in app.dump()
    (app.folder / "count").unlink()
    fails(
        app, "pg_dump: error: invalid compression specification: this build does not support compression with ZSTD\n", 1
    )
    assert "so gzip is used" in app.dump()
    assert app.states() == ["staged"]


def test_warnings_of_a_dump_that_succeeds_are_warnings_of_the_backup(app: StandIns) -> None:
    said = 'echo "pg_dump: warning: subscriptions not dumped because current user is not a superuser" >&2\n'
    app.program("pg_dump", PROGRAMS["pg_dump"] + said)
    app.run()
    (archive,) = app.archives("app")
    assert any("subscriptions not dumped" in text for text in app.metadata(archive)["warnings"])


@pytest.mark.parametrize(
    "text",
    [
        r"could not connect: Verbindung zur\374ck",
        "x" * 275 + "ü€😀" * 10,
        r"\355\240\200 \340\200\200 \364\220\200\200 \303",
        "Zürich, €, 😀",
    ],
    ids=["of another encoding", "shortened", "not quite UTF-8", "UTF-8"],
)
def test_message_in_any_encoding_keeps_no_good_backup_from_counting(app: StandIns, text: str) -> None:
    """A result that is not UTF-8 could not be read, and the archive next to it would be marked bad."""
    said = rf"printf 'pg_dump: warning: {text}\n' >&2" + "\n"
    app.program("pg_dump", PROGRAMS["pg_dump"] + said)
    app.run()
    (archive,) = app.archives("app")
    (warning,) = app.metadata(archive)["warnings"]
    assert (text in warning) == (text == "Zürich, €, 😀")
    assert ("?" in warning) == (text != "Zürich, €, 😀")


@in_both_shells
def test_lost_connection_is_waited_for(app: StandIns) -> None:
    count = app.folder / "asked"
    app.program(
        "psql",
        f"echo >>{count}; [ $(wc -l <{count}) -gt 1 ] || "
        '{ echo "psql: error: SSL SYSCALL error: EOF detected" >&2; exit 2; }\n' + PROGRAMS["psql"],
    )
    app.dump()
    assert app.states() == ["staged"]
