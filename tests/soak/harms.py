"""What may happen to runners, trials and files while a study runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One of a campaign's processes: a `runner`, a `trial` or a `child`."""

    pid: int
    group: int
    role: str


@dataclass
class Scene:
    """Where a campaign takes place.

    Attributes:
        folder: of results, cache and outputs.
        mark: what all its processes have in their environment.
        draw: of what happens.
    """

    folder: Path
    mark: str
    draw: random.Random

    @property
    def records(self) -> list[Path]:
        """Files of records."""
        return sorted((self.folder / "results").glob("records/*/*.jsonl"))

    def processes(self, *roles: str) -> list[Process]:
        """What runs now; with roles, only those, without the guards of trials."""
        found = list(_marked(self.mark))
        return [each for each in found if not roles or each.role in roles]


def _marked(mark: str) -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if mark.encode() not in (folder / "environ").read_bytes():
                continue
            state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if state in "ZX":
                continue
            command = (folder / "cmdline").read_bytes()
            pid = int(folder.name)
            role = "child"
            if b"soak_command.py" in command:
                role = "runner"
            elif b"bench.runner.worker" in command:
                role = "trial" if pid == int(group) else "guard"
            yield Process(pid, int(group), role)


def _send(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _has_spoken(process: Process) -> bool:
    try:
        return Path(f"/proc/{process.pid}/fd/1").stat().st_size > 0
    except OSError:
        return False


def _kill(*roles: str) -> Callable[[Scene], None]:
    def kill(scene: Scene) -> None:
        for role in roles:
            if found := scene.processes(role):
                _send(scene.draw.choice(found), signal.SIGKILL)

    return kill


def _kill_group(scene: Scene) -> None:
    if found := scene.processes("trial", "runner"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(scene.draw.choice(found).group, signal.SIGKILL)


def _kill_all(scene: Scene) -> None:
    found = scene.processes()
    scene.draw.shuffle(found)
    for process in found:
        _send(process, signal.SIGKILL)


def _signal(*numbers: int) -> Callable[[Scene], None]:
    def send(scene: Scene) -> None:
        # The interpreter's own start is nobody's to protect from an interrupt.
        if found := [each for each in scene.processes("runner") if _has_spoken(each)]:
            process, number = scene.draw.choice(found), scene.draw.choice(numbers)
            for _ in range(scene.draw.choice((1, 1, 2, 5))):
                _send(process, number)
                time.sleep(scene.draw.choice((0.0, 0.01, 0.1)))

    return send


def _stop(scene: Scene) -> None:
    """As Ctrl-Z and `fg` do, and a machine that sleeps."""
    if found := scene.processes("runner", "trial"):
        process = scene.draw.choice(found)
        _send(process, signal.SIGSTOP)
        time.sleep(scene.draw.uniform(0.1, 0.6))
        _send(process, signal.SIGCONT)


def _damage_cache(scene: Scene) -> None:
    """A byte changed, a file cut, lost or emptied; what is mapped already stays as it is."""
    cache = scene.folder / "cache"
    files = [path for path in cache.rglob("*") if path.is_file() and path.parent.name != "logs"]
    if not files:
        return
    with contextlib.suppress(OSError):
        path = scene.draw.choice(files)
        content = bytearray(path.read_bytes())
        harm = scene.draw.choice(("flip", "cut", "lose"))
        if harm == "lose" or not content:
            path.unlink()
            return
        if harm == "flip":
            content[scene.draw.randrange(len(content))] ^= 1 << scene.draw.randrange(8)
        else:
            del content[scene.draw.randrange(len(content)) :]
        other = scene.folder / "damaged"
        other.write_bytes(content)
        other.replace(path)


def _damage_records(scene: Scene) -> None:
    """Half a line of a killed writer, a line of something else, or a record that is cut."""
    if not scene.records:
        return
    path = scene.draw.choice(scene.records)
    with path.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        content = stream.read()
        harm = scene.draw.choice(("torn", "rubbish", "cut"))
        last = content.rstrip(b"\n").rpartition(b"\n")[2]
        if harm == "torn":
            stream.write(last[: scene.draw.randrange(len(last) + 1)])
        elif harm == "rubbish":
            stream.write(scene.draw.choice((b"\xff\xfe\n", b"[1]\n", b'{"schema": "2"}\n', b"\n")))
        elif last:
            stream.truncate(content.rfind(last) + scene.draw.randrange(len(last)))


def _fill_disk(scene: Scene) -> None:
    """From here on a runner's and its trials' files cannot grow, as on a full or read-only disk."""
    if found := scene.processes("runner"):
        largest = max((path.stat().st_size for path in scene.records), default=0)
        limit = scene.draw.choice((0, largest + scene.draw.randrange(3000)))
        with contextlib.suppress(ProcessLookupError):
            pid = scene.draw.choice(found).pid
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _forbid(scene: Scene) -> None:
    """A folder that cannot be written for a while; root may write all the same."""
    folders = [path for path in scene.folder.rglob("*") if path.is_dir()]
    if folders:
        folder = scene.draw.choice(folders)
        with contextlib.suppress(OSError):
            folder.chmod(0o555)
            time.sleep(scene.draw.uniform(0.1, 0.6))
            folder.chmod(0o755)


HARMS: dict[str, Callable[[Scene], None]] = {
    "kill runner": _kill("runner"),
    "kill trial": _kill("trial"),
    "kill both": _kill("runner", "trial"),
    "kill group": _kill_group,
    "kill all": _kill_all,
    "ask to end": _signal(signal.SIGTERM, signal.SIGHUP),
    "interrupt": _signal(signal.SIGINT),
    "stop and go on": _stop,
    "damage cache": _damage_cache,
    "damage records": _damage_records,
    "fill disk": _fill_disk,
    "forbid folder": _forbid,
}
