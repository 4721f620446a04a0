"""The bytes of a delivered file: its fingerprint, whether it is whole, and what is wrong with it.

Here: what can be told without knowing what the columns are. Not here: formats (``formats.py``) and
which files there are (``inventory.py``).
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

CHUNK = 1 << 20

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
"""Endings of packed text, as DuckDB calls the packing."""

KIND = re.compile(r"^[A-Z]\w*( \w+)? Error: ")
"""How DuckDB's messages begin."""

OTHERS = {
    b"\x1f\x8b": "packed with gzip; let its name end in .gz, or unpack it",
    b"\x28\xb5\x2f\xfd": "packed with Zstandard; let its name end in .zst, or unpack it",
    b"PK\x03\x04": "a ZIP archive or an Excel file; unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV",
    b"PAR1": "Parquet; let its name end in .parquet",
    b"BZh": "packed with bzip2; unpack it",
    b"\xfd7zXZ": "packed with xz; unpack it",
    b"%PDF": "a PDF document",
}
"""What is no text, by its first bytes."""
PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)\b", re.I)

FIELDS = re.compile(r"CSV Error on Line: (\d+), Expected Number of Columns: (\d+) Found: (\d+)")
QUOTE = re.compile(r"CSV Error on Line: (\d+), Value with unterminated quote")

MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
GLOB = re.compile(r"[][*?]")


class UnreadableFileError(ValueError):
    """A file can't be read; the message says why, in one line, without its name."""


@dataclass(frozen=True)
class Content:
    """What a file holds: the fingerprint of its bytes, and why it may be half written ('' where
    it is whole). ``unpaired``: it has an odd number of quotes."""

    digest: str
    unfinished: str = ""
    unpaired: bool = False


def unfinished(content: Content) -> str:
    """What to tell of a file that may be half written."""
    return (
        f"it may be half written: {content.unfinished}. Write it whole, under a name that begins "
        "with . until it is, or tell mapping.yaml that it is as it should be: unfinished: take"
    )


def content_of(path: Path, *, text: bool, lines: bool) -> Content:
    """Read the whole file; raises `UnreadableFileError`, also where it is no text or UTF-16.

    ``text`` says that NULs are no part of it, ``lines`` that each of its lines has an end, the
    last one too. A packed file is unpacked, since DuckDB's reader takes one that was cut off as
    complete.
    """
    raw = hashlib.sha256()
    plain = _Plain()
    packed = packing_of(path)
    try:
        with path.open("rb") as file:
            _each(file, raw.update if packed or not text else lambda c: _both(raw, plain, c))
        if packed:
            with unpacked(path) as file:
                _each(file, plain.add)
    except gzip.BadGzipFile as error:
        raise UnreadableFileError(_badly_packed(path, error)) from error
    except (OSError, EOFError, ValueError) as error:
        raise UnreadableFileError(reason_of(error)) from error
    if text and plain.other:
        raise UnreadableFileError(f"it is {plain.other}")
    if text and plain.encoding:
        raise UnreadableFileError(f"it is {plain.encoding}, expected UTF-8; save it again as UTF-8")
    return Content(
        raw.hexdigest()[:32], plain.unfinished(lines) if text else "", plain.quotes % 2 > 0
    )


@dataclass
class _Plain:
    """What the text of a file shows as it passes by."""

    size: int = 0
    nul: int = -1
    last: bytes = b""
    encoding: str = ""
    other: str = ""
    quotes: int = 0

    def add(self, chunk: bytes) -> None:
        if not self.size:
            self.encoding = _encoding_of(chunk)
            self.other = _other_than_text(chunk)
        self.quotes += chunk.count(b'"')
        if self.nul < 0 and (found := chunk.find(b"\0")) >= 0:
            self.nul = self.size + found
        self.size += len(chunk)
        self.last = chunk[-1:]

    def unfinished(self, lines: bool) -> str:
        if self.nul >= 0:
            return f"it holds NUL at byte {self.nul}"
        if lines and self.last not in (b"", b"\n", b"\r"):
            return "its last line has no end"
        return ""


def _both(raw: hashlib._Hash, plain: _Plain, chunk: bytes) -> None:
    raw.update(chunk)
    plain.add(chunk)


def _each(file: IO[bytes], take: Callable[[bytes], object]) -> None:
    while chunk := file.read(CHUNK):
        take(chunk)


def packing_of(path: Path) -> str:
    """How a file is packed, as DuckDB calls it; '' where it is not."""
    return PACKINGS.get(path.suffix.lower(), "")


def _badly_packed(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return reason_of(error) if packed else "it is not packed, but its name ends in .gz; rename it"


def unpacked(path: Path) -> IO[bytes]:
    """The file's plain bytes."""
    match packing_of(path):
        case "gzip":
            return cast(IO[bytes], gzip.open(path))
        case "zstd":
            return cast(IO[bytes], pa.input_stream(str(path), compression="zstd"))
        case _:
            return path.open("rb")


def head_of(path: Path, size: int) -> bytes:
    """The first bytes of a file's text; raises `UnreadableFileError`, also where they are not
    UTF-8."""
    try:
        with unpacked(path) as file:
            head = bytes(file.read(size))
    except (OSError, EOFError, ValueError) as error:
        raise UnreadableFileError(reason_of(error)) from error
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or len(head) < size:  # Else a character is cut off.
            raise UnreadableFileError(_not_utf8(head, error.start)) from error
    return head


def address_of(path: Path) -> str:
    """The path as DuckDB's readers take it: as itself, not as a pattern.

    Raises `UnreadableFileError` where there is no way to say it.
    """
    told = str(path)
    if not GLOB.search(told):
        return told
    if "\\" in told:
        raise UnreadableFileError(r"its path has \ beside one of [ ] * ?; rename it")
    return re.sub(r"[\[*?]", r"[\g<0>]", told)


def reason_of(error: Exception) -> str:
    """What is wrong with a file, in one line: DuckDB's first lines, without its advice and
    without the row, which may be personal."""
    told = str(error).partition("\nPossible")[0]
    told, row, more = told.partition("\nOriginal Line")
    if row:  # It may be of many lines; what is wrong stands last.
        told += "\n" + more.strip().rpartition("\n")[2]
    kept: list[str] = []
    for line in filter(None, map(str.strip, told.splitlines())):
        if line.startswith(("* ", "file = ", "LINE ", "This can happen when")):
            break
        kept.append(line)
    text = KIND.sub("", ", ".join(kept) or type(error).__name__)
    return text if len(text) <= 300 else f"{text[:297]}..."


def cause_of(path: Path, error: Exception) -> str:
    """`reason_of`, or the cause behind it where DuckDB only tells a symptom."""
    reason = reason_of(error)
    if "GZIP" in reason:
        return "something that is not packed follows its packed end; pack it again"
    if fields := FIELDS.match(reason):
        line, header, found = map(int, fields.groups())
        if found < header:
            return f"line {line} has {found} of {header} fields; mend the line"
        return (
            f"line {line} has more fields than the {header} of the first line; mend the line, or "
            "remove what stands above the header"
        )
    if quote := QUOTE.match(reason):
        return f"line {quote[1]} opens a quote that is not closed"
    look = (
        _changed_line_end
        if "state machine" in reason
        else _other_encoding
        if re.search("unicode|utf-?8", reason, re.I)
        else None
    )
    if look is None:
        return reason
    try:
        with unpacked(path) as file:
            told = (look(number, line, before) for number, line, before in _lines(file))
            return next(filter(None, told), reason)
    except (OSError, EOFError, ValueError):
        return reason


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    """Each line with its number from 1 and the line before it."""
    number, rest, before = 0, b"", b""
    while chunk := file.read(CHUNK):
        *lines, rest = (rest + bytes(chunk)).split(b"\n")
        for line in lines:
            number += 1
            yield number, line, before
            before = line
    yield number + 1, rest, before


def _changed_line_end(number: int, line: bytes, before: bytes) -> str:
    end, other = ("CRLF" if b"\r" in one else "LF" for one in (line, before))
    if number == 1 or not line or end == other:
        return ""
    return (
        f"line {number} ends with {end}, the line before it with {other}; save it again with one "
        "kind of line end"
    )


def _other_encoding(number: int, line: bytes, before: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"line {number}: {_not_utf8(line, error.start)}"
    return ""


def _other_than_text(head: bytes) -> str:
    """What a file is by its first bytes, where that is no text with rows."""
    if PAGE.match(head):
        return "a page of HTML or XML (a log-in or an error, in place of the file?)"
    return next((told for mark, told in OTHERS.items() if head.startswith(mark)), "")


def _encoding_of(head: bytes) -> str:
    """Another encoding than UTF-8 that the first bytes give away: by their mark, or by the NULs
    that Latin letters have in it."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    few = head[: 1 << 12]
    nuls = [few[place::2].count(0) for place in (0, 1)]
    if max(nuls) > 0.4 * (len(few) / 2) and min(nuls) < 0.1 * max(nuls) and len(few) > 1:
        return "UTF-16"
    return ""


def _not_utf8(text: bytes, at: int) -> str:
    return (
        f"byte {at} is not UTF-8 ({text[at : at + 1]!r}), probably Latin-1 or Windows-1252; save "
        "it again as UTF-8"
    )
