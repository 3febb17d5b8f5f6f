"""Push code with tar, if rsync is missing on either side.

Small files travel as archives of bounded size. A large file, or one with holes, travels as its data alone, piece by
piece, and has its holes again there. All of it is put beside the code first, under a name that follows from what is
sent: a push that was cut off goes on from there, and leaves the code as it was. Then each file gets into its place by a
rename.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import secrets
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.excerpt import excerpt
from skill.hosts import rsync_process
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.hosts.rsync_process import Report

LARGE = 64 << 20
"""Bytes above which a file travels in pieces."""
BLOCK = 1 << 16
"""Holes of less are sent as zeros. Pieces begin at a multiple of it."""
_PIECE = 32 << 20
"""Bytes of one piece, and of one archive, before they are packed."""
_MOST_FILES = 10_000
"""Of one archive."""
_LIMIT = 3600.0
"""Seconds for one piece or archive."""


class Range(NamedTuple):
    """Data of a file from `begin`, a multiple of BLOCK, onwards."""

    begin: int
    size: int


class Plan(NamedTuple):
    """How files travel: `archives` of small ones, and `large` ones each by itself."""

    archives: tuple[tuple[str, ...], ...]
    large: tuple[str, ...]


class Stage(NamedTuple):
    """Where one push puts files first. `token`: derived from what is sent; `owner`: this push, and no other."""

    host: Host
    workspace: str
    token: str
    owner: str

    def run(self, text: str, *args: str, stdin: bytes = b"") -> bytes | str | Unreachable:
        """Return what a text of sh prints there; else what went wrong, and the stage is removed."""
        result = self.host.script(text, self.workspace, self.token, self.owner, *args, stdin=stdin, timeout=_LIMIT)
        if isinstance(result, CommandResult) and result.code != 0:
            self.host.script(_CLEAR, self.workspace, self.token, self.owner)
            return f"tar on {self.host.name} failed with exit code {result.code}: {excerpt(result.err) or 'no output'}"
        return result if isinstance(result, Unreachable) else result.out


def plan(source: Path, files: Iterable[str]) -> Plan:
    """Divide files, relative to `source`, into archives and those that are sent in pieces."""
    archives: list[list[str]] = [[]]
    large, room = [], _PIECE
    for name in files:
        info = (source / name).lstat()
        if stat.S_ISREG(info.st_mode) and (info.st_size > LARGE or info.st_size - 512 * info.st_blocks >= BLOCK):
            large.append(name)
            continue
        if archives[-1] and (info.st_size > room or len(archives[-1]) >= _MOST_FILES):
            archives.append([])
            room = _PIECE
        archives[-1].append(name)
        room -= info.st_size
    return Plan(tuple(tuple(names) for names in archives if names), tuple(large))


def token(source: Path, files: Iterable[str]) -> str:
    """Name what is sent: a change of any file gives another name."""
    digest = hashlib.sha256()
    for name in files:
        info = (source / name).lstat()
        digest.update(f"{info.st_size} {info.st_mtime_ns} {info.st_mode} ".encode() + os.fsencode(name) + b"\0")
    return digest.hexdigest()[:16]


def data(file: io.FileIO) -> list[Range]:
    """List where a file has data, in order and separately. All of it if the file system does not know."""
    size = os.fstat(file.fileno()).st_size
    found: list[Range] = []
    at = 0
    while at < size:
        begin, end = _next_data(file.fileno(), at, size)
        begin -= begin % BLOCK
        end = min(size, end + -end % BLOCK)
        if begin < end:
            found.append(Range(begin, end - begin))
        at = end
    return found


def _next_data(fd: int, at: int, size: int) -> tuple[int, int]:
    """Find begin and end of the data at or after a place; the end of the file twice if there is none."""
    try:
        begin = os.lseek(fd, at, os.SEEK_DATA)
        return begin, os.lseek(fd, begin, os.SEEK_HOLE)
    except OSError as error:
        return (size, size) if error.errno == errno.ENXIO else (at, size)
    except AttributeError:  # a system that knows no holes
        return at, size


def pieces(ranges: Iterable[Range]) -> list[list[Range]]:
    """Group ranges, split where they are too long, into at most _PIECE bytes each."""
    found: list[list[Range]] = [[]]
    room = _PIECE
    for one in ranges:
        begin, left = one
        while left > 0:
            if room < BLOCK:
                found.append([])
                room = _PIECE
            size = min(left, room - room % BLOCK)
            found[-1].append(Range(begin, size))
            begin, left, room = begin + size, left - size, room - size
    return [group for group in found if group]


def send_files(
    host: Host, source: Path, workspace: str, files: Sequence[str], name: str, report: Report = rsync_process.ignore
) -> int | str | Unreachable:
    """Bring files into a workspace, going on where an earlier push of the same `name` (see `token`) was cut off.
    `report` gets the bytes that are there after each file or archive.

    Returns how many bytes they are without their holes; else what went wrong.
    """
    stage = Stage(host, workspace, name, secrets.token_hex(8))
    begun = stage.run(_BEGIN)
    if not isinstance(begun, bytes):
        return begun
    there = dict(line.split(" ", 1) for line in begun.decode(errors="replace").splitlines() if " " in line)
    meant = plan(source, files)
    count = at = 0
    for number, one in enumerate(meant.large):
        sent = _send_large(stage, source, one, f"at.f{number}", there.get(f"at.f{number}", ""))
        if not isinstance(sent, int):
            return sent
        count += sent
        at += (source / one).lstat().st_size
        report(at)
    left = [number for number in range(len(meant.archives)) if f"at.b{number}" not in there]
    for number in left:
        text = _UNPACK + (_PUBLISH if number == left[-1] else "")
        done = stage.run(text, f"at.b{number}", stdin=pack(source, meant.archives[number]))
        if not isinstance(done, bytes):
            return done
        at += sum((source / one).lstat().st_size for one in meant.archives[number])
        report(at)
    if not left:
        done = stage.run(_OURS + _PUBLISH)
        if not isinstance(done, bytes):
            return done
    return count + sum((source / one).lstat().st_size for names in meant.archives for one in names)


def _send_large(stage: Stage, source: Path, name: str, mark: str, so_far: str) -> int | str | Unreachable:
    """Send a file in pieces. `mark`: what counts them there; `so_far`: what it says."""
    with (source / name).open("rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        ranges = data(file)
        groups = pieces(ranges)
        done = int(so_far) if so_far.isdigit() and int(so_far) <= len(groups) else 0
        for number, group in enumerate(groups or [[]]):
            if number < done:
                continue
            raw = _read(file, group)
            now = os.fstat(file.fileno())
            if raw is None or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                stage.run(_CLEAR)
                return f"{name} was changed here while it was being copied; run the same command again"
            places = [f"{one.begin // BLOCK}:{-(-one.size // BLOCK)}" for one in group]
            about = (mark, str(number + 1), name, str(before.st_size), f"{stat.S_IMODE(before.st_mode):o}")
            result = stage.run(_PLACE, *about, str(int(before.st_mtime)), *places, stdin=gzip.compress(raw, 1, mtime=0))
            if not isinstance(result, bytes):
                return result
    return sum(one.size for one in ranges)


def _read(file: io.FileIO, group: Iterable[Range]) -> bytes | None:
    """Read the data of some ranges; None if the file has become shorter."""
    found = bytearray()
    for one in group:
        left = one.size
        for part in _parts(file, one):
            found += part
            left -= len(part)
        if left:
            return None
    return bytes(found)


def _parts(file: io.FileIO, one: Range) -> Iterator[bytes]:
    file.seek(one.begin)
    left = one.size
    while left and (part := file.read(left)):
        yield part
        left -= len(part)


def pack(source: Path, files: Iterable[str]) -> bytes:
    """Pack these files as a tar.gz, without owners."""

    def bare(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=5, format=tarfile.GNU_FORMAT) as archive:
        for name in files:
            # A second name of a file is carried as a file: its first one may be in place already.
            info = archive.gettarinfo(str(source / name), arcname=name)
            if info.islnk():
                info.type, info.size = tarfile.REGTYPE, (source / name).lstat().st_size
            if info.isreg():
                with (source / name).open("rb") as file:
                    archive.addfile(bare(info), file)
            else:
                archive.addfile(bare(info))
    return buffer.getvalue()


# The latest push of the same files has the stage; what earlier ones have put there is named, each mark with its count.
_BEGIN = """
cd -- "$1" || exit 1
umask 077; mkdir -p .wavequeue || exit 1
find .wavequeue -name 'push.*' -prune -mmin +120 -exec rm -rf {} + 2>/dev/null
mkdir -p ".wavequeue/push.$2/new" && cd ".wavequeue/push.$2" && echo "$3" > owner || exit 1
for mark in at.*; do [ ! -e "$mark" ] || echo "$mark $(cat "$mark")"; done
"""
_OURS = """
cd -- "$1/.wavequeue/push.$2" 2>/dev/null && [ "$(cat owner)" = "$3" ] || {
    echo "another push of the same files has gone on with it; run the same command again" >&2; exit 1; }
umask 022
"""
_CLEAR = f"{_OURS}cd ../.. && rm -rf .wavequeue/push.$2\n"
_UNPACK = f"""{_OURS}
tar -xzpof - -C new || exit 1
echo 1 > mark && mv -f mark "$4" || exit 1
"""

# $4: the mark, $5: its count after this piece, $6: name, $7: size, $8: mode, $9: time; then place and length of each
# range, in blocks. A piece counts once its checksum has been seen.
_PLACE = f"""{_OURS}
mark=$4 count=$5 to=new/$6 size=$7 mode=$8 time=$9
shift 9
case $to in */*) mkdir -p -- "${{to%/*}}" || exit 1 ;; esac
quietly() {{ "$@" 2> errors || {{ sed '/records/d; /copied/d' errors >&2; return 1; }}; }}
if [ "$count" = 1 ]; then
    rm -f -- "$to"; quietly dd if=/dev/null of="$to" bs=1 count=0 seek="$size" || exit 1
fi
rm -f whole
{{ gzip -dc && : > whole; }} | {{
    for place do
        quietly dd of="$to" bs={BLOCK} seek="${{place%:*}}" count="${{place#*:}}" iflag=fullblock conv=notrunc || exit 1
    done
    cat > /dev/null
}} || exit 1
[ -e whole ] || exit 1
chmod "$mode" "$to" && touch -d "@$time" "$to" && echo "$count" > mark && mv -f mark "$mark" || exit 1
"""
_PUBLISH = """
cd new && find . ! -type d -exec sh -c '
for file do
    to=../../../$file; folder=${to%/*}
    [ -d "$folder" ] || mkdir -p "$folder" || exit 1
    [ -L "$file" ] && [ -L "$to" ] && { rm -f "$to" || exit 1; }
    if [ -d "$to" ]; then echo "$file is a directory there" >&2; exit 1; fi
    mv -f "$file" "$to" || exit 1
done' sh {} + || exit 1
cd ../../.. && rm -rf ".wavequeue/push.$2"
"""
