"""What we encrypt is an age file like any other: the published vectors, and the age command in both directions."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from offsite.age import (
    AgeError,
    HeaderError,
    Identity,
    KeyFormatError,
    MacError,
    NoMatchError,
    PayloadError,
    Recipient,
    bech32,
    decrypted,
    encrypted,
    encrypted_size,
    libcrypto,
    parse_identities,
    probe,
)
from offsite.age.errors import LibcryptoError
from retention.errors import ExitCode
from tests.lab import tools

CHUNK = 64 * 1024
BOUNDARIES = (0, 1, 15, 16, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1)
ROWS = (16 * CHUNK - 1, 16 * CHUNK, 16 * CHUNK + 1, 16 * CHUNK + CHUNK - 1, 17 * CHUNK, 32 * CHUNK, 32 * CHUNK + 1)
"""Around what is read at a time."""


def new_identity() -> Identity:
    return Identity(os.urandom(32))


def text_of(identity: Identity) -> str:
    return bech32.encode("age-secret-key-", identity.key).upper()


def encrypt(content: bytes, recipients: list[Recipient]) -> bytes:
    return b"".join(map(bytes, encrypted(io.BytesIO(content).readinto, recipients)))


def decrypt(content: bytes, *identities: Identity) -> bytes:
    return b"".join(map(bytes, decrypted(io.BytesIO(content).readinto, identities)))


def age(*arguments: str | Path, content: bytes) -> bytes:
    done = subprocess.run(
        [tools.program("age"), *map(str, arguments)], input=content, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


# The published vectors.


@dataclass(frozen=True, slots=True)
class Vector:
    expect: str
    payload: str
    identities: tuple[Identity, ...]
    content: bytes


ERRORS: dict[str, type[AgeError]] = {
    "no match": NoMatchError,
    "HMAC failure": MacError,
    "header failure": HeaderError,
    "payload failure": PayloadError,
}


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("age") / "vectors"
    subprocess.run([tools.program("age-vectors", "age"), folder], check=True, timeout=60)
    return folder


def read_vector(path: Path) -> Vector | None:
    """One vector; None where it is about what we do not have: passphrases, armor, hybrid keys."""
    head, _, content = path.read_bytes().partition(b"\n\n")
    facts: dict[str, list[str]] = {}
    for line in head.decode().splitlines():
        key, _, value = line.partition(": ")
        facts.setdefault(key, []).append(value)
    known = {"expect", "payload", "file key", "identity", "compressed", "comment"}
    texts = facts.get("identity", [])
    if facts.keys() - known or any(text.startswith("AGE-SECRET-KEY-PQ-") for text in texts):
        return None
    if "compressed" in facts:
        content = zlib.decompress(content)
    return Vector(facts["expect"][0], facts.get("payload", [""])[0], tuple(map(Identity.parse, texts)), content)


def test_every_published_vector_has_the_outcome_that_it_expects(vectors: Path) -> None:
    outcomes: dict[str, int] = {}
    for path in sorted(vectors.iterdir()):
        vector = read_vector(path)
        if vector is None:
            continue
        released, outcome = hashlib.sha256(), "success"
        try:
            for piece in decrypted(io.BytesIO(vector.content).readinto, vector.identities):
                released.update(piece)
        except AgeError as error:
            outcome = next(name for name, kind in ERRORS.items() if type(error) is kind)
        assert outcome == vector.expect, path.name
        if outcome in ("success", "payload failure"):
            assert released.hexdigest() == vector.payload, path.name
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes.keys() == {"success", *ERRORS}
    assert sum(outcomes.values()) >= 67, outcomes


# The age command.


@pytest.mark.parametrize("size", [*BOUNDARIES, *ROWS])
def test_our_file_is_read_by_age_and_its_file_by_us_at_every_boundary(size: int, tmp_path: Path) -> None:
    _both_directions(random.Random(size), size, tmp_path)


@pytest.mark.long
def test_a_thousand_random_sizes_are_read_in_both_directions(tmp_path: Path) -> None:
    chance = random.Random(21)
    for _ in range(1000):
        around = chance.choice([0, CHUNK, 2 * CHUNK, 16 * CHUNK, 17 * CHUNK, 32 * CHUNK])
        size = max(0, around + chance.choice([chance.randint(-20, 20), chance.randint(-CHUNK, CHUNK)]))
        _both_directions(chance, size, tmp_path)


def _both_directions(chance: random.Random, size: int, folder: Path) -> None:
    identity, other = new_identity(), new_identity()
    content, key = chance.randbytes(size), folder / "key.txt"
    key.write_text(f"# a comment\n\n{text_of(identity)}\n")
    recipients = [other.recipient, identity.recipient]
    ours = encrypt(content, recipients)
    assert len(ours) == encrypted_size(size, 2), size
    assert age("-d", "-i", key, content=ours) == content, size
    theirs = age(*(word for one in recipients for word in ("-r", str(one))), content=content)
    assert decrypt(theirs, *parse_identities(key.read_text())) == content, size
    assert len(theirs) == encrypted_size(size, 2) or b"-grease" in theirs[:1000], size


def test_each_of_several_recipients_alone_can_read(tmp_path: Path) -> None:
    identities = [new_identity() for _ in range(20)]
    content = encrypt(b"dump", [identity.recipient for identity in identities])
    assert len(content) == encrypted_size(4, 20)
    for identity in identities:
        assert decrypt(content, identity) == b"dump"
        assert decrypt(content, new_identity(), identity) == b"dump"
        (tmp_path / "key.txt").write_text(text_of(identity))
        assert age("-d", "-i", tmp_path / "key.txt", content=content) == b"dump"
    with pytest.raises(NoMatchError, match="20 recipients"):
        decrypt(content, new_identity())


def test_keys_of_age_keygen_are_understood_and_written_alike(tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    keygen = tools.program("age-keygen", "age")
    subprocess.run([keygen, "-o", path], check=True, capture_output=True, timeout=60)
    (identity,) = parse_identities(path.read_text())
    printed = subprocess.run(
        [keygen, "-y", path], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()
    assert str(identity.recipient) == printed
    assert Recipient.parse(printed) == identity.recipient
    assert text_of(identity) in path.read_text()


def test_two_files_of_the_same_content_have_nothing_in_common() -> None:
    recipients = [new_identity().recipient]
    one, two = (encrypt(bytes(CHUNK), recipients) for _ in range(2))
    header = len(one) - CHUNK - 32
    assert one[header:] != two[header:]
    assert not set(_words(one[header:])) & set(_words(two[header:]))


def _words(content: bytes) -> list[bytes]:
    return [content[place : place + 16] for place in range(0, len(content) - 16, 16)]


# Damage.


@pytest.mark.parametrize("size", [0, 3, CHUNK + 3])
def test_no_changed_byte_is_ever_read_as_sound(size: int) -> None:
    identity, content = new_identity(), random.Random(1).randbytes(size)
    whole = encrypt(content, [identity.recipient, new_identity().recipient])
    header = len(whole) - (size + 16 * max(1, -(-size // CHUNK)) + 16)
    chance = random.Random(2)
    places = [*range(header + 32), *(chance.randrange(len(whole)) for _ in range(100)), len(whole) - 1]
    for place in places:
        if place < len(whole):
            for bit in chance.sample(range(8), 2):
                changed = bytearray(whole)
                changed[place] ^= 1 << bit
                _assert_refused(bytes(changed), identity, content, f"bit {bit} of byte {place}")


@pytest.mark.parametrize("size", [0, 3, 2 * CHUNK])
def test_no_truncated_or_prolonged_file_is_read_as_sound(size: int) -> None:
    identity, content = new_identity(), random.Random(3).randbytes(size)
    whole = encrypt(content, [identity.recipient])
    edges = {len(whole) - back for back in range(1, 40)} | set(range(0, min(len(whole), 400)))
    edges |= {len(whole) - CHUNK - 16 + shift for shift in range(-17, 18)}
    for length in edges:
        if 0 <= length < len(whole):
            _assert_refused(whole[:length], identity, content, f"cut to {length}")
    for more in (b"\0", bytes(15), bytes(16), bytes(CHUNK + 16), whole):
        _assert_refused(whole + more, identity, content, f"{len(more)} bytes more")


def test_swapped_repeated_and_dropped_chunks_are_refused() -> None:
    identity, content = new_identity(), random.Random(4).randbytes(40 * CHUNK)
    whole = encrypt(content, [identity.recipient])
    start = len(whole) - 40 * (CHUNK + 16)
    head, chunks = whole[:start], [whole[place : place + CHUNK + 16] for place in range(start, len(whole), CHUNK + 16)]
    for one, two in ((0, 1), (0, 39), (15, 16), (16, 31), (38, 39)):
        swapped = chunks.copy()
        swapped[one], swapped[two] = chunks[two], chunks[one]
        _assert_refused(head + b"".join(swapped), identity, content, f"{one} and {two} swapped")
    for place in (0, 15, 16, 38, 39):
        dropped = chunks[:place] + chunks[place + 1 :]
        _assert_refused(head + b"".join(dropped), identity, content, f"{place} dropped")
        repeated = chunks[: place + 1] + chunks[place:]
        _assert_refused(head + b"".join(repeated), identity, content, f"{place} repeated")


def _assert_refused(changed: bytes, identity: Identity, content: bytes, what: str) -> None:
    """What is released before the error is a beginning of the content, and never all of it without an error."""
    released = b""
    with pytest.raises(AgeError):  # noqa: PT012
        for piece in decrypted(io.BytesIO(changed).readinto, [identity]):
            released += bytes(piece)
            assert content.startswith(released), what
        pytest.fail(f"{what}: read as sound")


@pytest.mark.parametrize("seed", range(4))
def test_any_header_whatsoever_is_an_error_in_one_line_or_the_content(seed: int) -> None:
    chance, identity = random.Random(seed), new_identity()
    whole = encrypt(b"dump", [identity.recipient, new_identity().recipient])
    end = whole.index(b"\n", whole.index(b"---")) + 1
    lines = whole[:end].splitlines(keepends=True)
    extra = [b"-> ", b"->\n", b"-> a\n", b"\n", b"-> X25519 \n", b"\r\n", b"--- \n", b"-> scrypt a 1\n", b"\xff\n"]
    changes: list[Callable[[list[bytes]], object]] = [
        lambda found: found.insert(chance.randrange(len(found)), chance.choice(extra)),
        lambda found: found.pop(chance.randrange(len(found))),
        lambda found: found.insert(chance.randrange(len(found)), chance.choice(lines)),
        lambda found: chance.shuffle(found),
        lambda found: found.__setitem__(0, found[0] + chance.randbytes(chance.randrange(200))),
    ]
    for _ in range(250):
        found = lines.copy()
        for _ in range(chance.randrange(1, 4)):
            if len(found) > 1:
                chance.choice(changes)(found)
        if found == lines:
            continue
        with pytest.raises(AgeError) as caught:
            decrypt(b"".join(found) + whole[end:], identity)
        assert "\n" not in str(caught.value)


def test_an_endless_header_is_refused_without_reading_it_all() -> None:
    given = 0

    def endless(view: memoryview) -> int:
        nonlocal given
        given += len(view)
        view[:] = b"x" * len(view)
        return len(view)

    with pytest.raises(HeaderError):
        list(decrypted(endless, [new_identity()]))
    assert given < 1024 * 1024
    lines = io.BytesIO(b"age-encryption.org/v1\n" + b"-> a\n\n" * 1_000_000)
    with pytest.raises(HeaderError, match="longer than"):
        list(decrypted(lines.readinto, [new_identity()]))


# Sources that give little at a time, and memory.


def test_a_source_that_gives_a_byte_at_a_time_makes_no_difference() -> None:
    identity, content = new_identity(), random.Random(5).randbytes(CHUNK + 5)
    source = io.BytesIO(content)
    whole = b"".join(map(bytes, encrypted(lambda view: source.readinto(view[:1000]), [identity.recipient])))
    assert decrypt(whole, identity) == content
    again = io.BytesIO(whole)
    assert b"".join(map(bytes, decrypted(lambda view: again.readinto(view[:7]), [identity]))) == content


def test_memory_does_not_grow_with_the_archive() -> None:
    code = """
import resource, sys
from offsite.age import Identity, encrypted, decrypted, encrypted_size
identity, left = Identity(bytes(range(32))), int(sys.argv[1])
def read(view):
    global left
    count = min(len(view), left)
    left -= count
    return count
def cipher():
    for piece in encrypted(read, [identity.recipient]):
        yield bytes(piece)
pieces, rest = cipher(), b""
def again(view):
    global rest
    rest = rest or next(pieces, b"")
    count = min(len(view), len(rest))
    view[:count], rest = rest[:count], rest[count:]
    return count
total = sum(len(piece) for piece in decrypted(again, [identity]))
assert total == int(sys.argv[1]), total
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    small, large = (
        int(
            subprocess.run([sys.executable, "-c", code, str(size)], check=True, capture_output=True, timeout=120).stdout
        )
        for size in (2 * 1024 * 1024, 200 * 1024 * 1024)
    )
    assert large < small + 8 * 1024, f"{small} KiB for 2 MiB, {large} KiB for 200 MiB"


# Keys.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "too short"),
        ("age1", "too short"),
        ("hello", "too short"),
        ("age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq", "checksum is wrong"),
        (bech32.encode("age", bytes(31)), "not an X25519 public key"),
        (bech32.encode("bc", bytes(32)), "not an X25519 public key"),
        (bech32.encode("age", bytes(32)), "protects nothing"),
        (bech32.encode("age", bytes([1, *[0] * 31])), "protects nothing"),
        (bech32.encode("age", bytes(range(32))).upper(), "not in lower case"),
        (bech32.encode("age1pq", bytes(1216)), "not an X25519 public key"),
        ("age1é", "too short"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAA", "mixes upper and lower case"),
    ],
)
def test_a_wrong_recipient_is_refused_with_its_reason(text: str, words: str) -> None:
    with pytest.raises(KeyFormatError, match=words) as caught:
        Recipient.parse(text)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "age-keygen" in caught.value.remedy


def test_every_mistyped_character_of_a_recipient_is_noticed() -> None:
    text = str(new_identity().recipient)
    for place in range(4, len(text)):
        for character in "qpzry9x8gf2tvdw0s3jn54khce6mua7l":
            if character != text[place]:
                with pytest.raises(KeyFormatError):
                    Recipient.parse(f"{text[:place]}{character}{text[place + 1 :]}")


def test_no_error_shows_a_secret_key() -> None:
    secret = text_of(new_identity())
    for text in (secret, secret.lower(), f"{secret[:-1]}", f"{secret} x"):
        for parse in (Recipient.parse, Identity.parse, parse_identities):
            if parse is not Recipient.parse and text == secret:
                continue
            with pytest.raises(KeyFormatError) as caught:
                parse(text)
            assert secret[16:40].lower() not in str(caught.value).lower()
    assert secret.lower()[16:40] not in repr(Identity.parse(secret)).lower()
    assert "ssss" not in repr(Identity(b"s" * 32))


def test_a_file_without_an_identity_is_refused() -> None:
    for text in ("", "# only a comment\n"):
        with pytest.raises(KeyFormatError, match="no identity"):
            parse_identities(text)


def test_nothing_is_encrypted_without_a_recipient() -> None:
    with pytest.raises(KeyFormatError, match="no recipient"):
        encrypt(b"dump", [])


# Images that cannot.


def test_an_image_without_libcrypto_is_noticed_at_the_start_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for candidates, words in ((["/nonexistent"], "has no libcrypto"), (["libm.so.6"], "lacks a function")):
        libcrypto._library.cache_clear()
        monkeypatch.setattr(libcrypto, "_candidates", lambda candidates=candidates: iter(candidates))
        with pytest.raises(LibcryptoError, match=words) as caught:
            probe()
        assert "\n" not in str(caught.value)
        assert "python:3.14-alpine" in caught.value.remedy
    monkeypatch.undo()
    libcrypto._library.cache_clear()
    probe()


def test_libcrypto_is_found_where_the_hash_extension_is_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_hashlib", None)
    monkeypatch.setitem(sys.modules, "_ssl", None)
    libcrypto._library.cache_clear()
    try:
        probe()
    finally:
        libcrypto._library.cache_clear()


@pytest.mark.parametrize("function", ["seal", "unseal", "public_key", "shared_secret"])
def test_a_libcrypto_that_gives_wrong_answers_is_noticed_at_the_start(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe()
    monkeypatch.setattr(libcrypto, function, lambda *_: bytes(32))
    with pytest.raises(LibcryptoError, match="wrong answers"):
        probe()
