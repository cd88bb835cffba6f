"""
What a test may have left behind, counted before and after.

A census reads the kernel's own lists and compares nothing itself; `leaked()`
compares two of them and says in words what is there now and was not before. It
must cost a few milliseconds, because it runs around every test.

Other programs may use jailbox on the same machine at the same time. What is theirs
is ignored: a keeper watches its owner, and files and control groups carry the number
of the process that they were made for.

This is not a benchmark of memory: sizes and rates belong to the soak tests.
"""

import contextlib
import gc
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import attrs

# Ending a jail is asynchronous below us: the kernel reaps, unmounts and frees on
# its own time. Whatever is still there after this many seconds is leaked.
PATIENCE = 1.0

# The processes of ours call themselves so (`/proc/PID/comm`).
COMM = "jailbox"

# Namespaces of a kind that a keeper may hold ready for its next jails (READY_MAX in
# _native/keeper.h). How many there are at a moment says nothing.
READY = 4
READY_KINDS = ("ipc", "net", "user", "uts")

# A keeper's name, which its file and its control groups carry: the number of the
# host process, and some digits.
KEEPER_NAME = re.compile(r"\b(\d+)-[0-9a-f]{8}\b")

# What test runs and benchmarks make for themselves, and clear: not the library's, and
# perhaps that of another run on this machine.
SCAFFOLD = re.compile(r"/jailbox(-tests-|-bench-|/floor-|/peer)")

CGROUP_MOUNT = re.compile(r"^\d+ \d+ \S+ \S+ (\S+) .* - cgroup2? ", re.MULTILINE)


def _read(path: str) -> str:
    """Return the text of *path*, or nothing when it is gone or not for us."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


@attrs.frozen
class Task:
    """A process, as far as the census needs to know it."""

    pid: int
    parent: int
    name: str
    is_dead: bool

    @property
    def is_ours(self) -> bool:
        """Whether it runs our helper (of whichever host process)."""
        return self.name.startswith(COMM)


def tasks() -> dict[int, Task]:
    """Return every process of the machine."""
    found = {}
    for entry in _list("/proc"):
        if entry.isdecimal():
            # PID (NAME) STATE PPID ...; the name may hold anything.
            head, _, rest = _read(f"/proc/{entry}/stat").rpartition(") ")
            if rest:
                name = head.partition(" (")[2]
                state, parent, _ = rest.split(" ", 2)
                task = Task(int(entry), int(parent), name, is_dead=state in "XZ")
                found[task.pid] = task
    return found


def _watched(pid: int) -> set[int]:
    """Return the processes that *pid* holds pidfds of."""
    found = set()
    for entry in _list(f"/proc/{pid}/fdinfo"):
        match = re.search(
            r"^Pid:\t(\d+)$", _read(f"/proc/{pid}/fdinfo/{entry}"), re.MULTILINE
        )
        if match:
            found.add(int(match[1]))
    return found


def _ours(names: Iterable[str]) -> Counter[str]:
    """
    Count *names* without those that belong to another living process.

    Names of our keeper become equal, for it may be replaced by another.
    """
    kept: Counter[str] = Counter()
    for name in names:
        match = KEEPER_NAME.search(name)
        if SCAFFOLD.search(name):
            continue
        if match is None:
            kept[name] += 1
        elif int(match[1]) == os.getpid():
            kept[KEEPER_NAME.sub("KEEPER", name, count=1)] += 1
        elif not os.path.exists(f"/proc/{match[1]}"):
            kept[name] += 1
    return kept


def _user(pid: int) -> int | None:
    match = re.search(r"^Uid:\t(\d+)", _read(f"/proc/{pid}/status"), re.MULTILINE)
    return int(match[1]) if match else None


def helpers(everyone: dict[int, Task]) -> dict[int, bool]:
    """
    Return the helper processes that answer for this test run.

    Returns:
        For each process, whether it is a keeper of this very process. A helper
        below a keeper of somebody else is left out; one without any keeper is
        an orphan, and counts as ours.
    """
    found = {}
    owners: dict[int, bool | None] = {}
    for task in everyone.values():
        if not task.is_ours:
            continue
        top = task
        while (parent := everyone.get(top.parent)) and parent.is_ours:
            top = parent
        if top.is_dead:
            # The machine's init reaps what it adopts, though some take seconds.
            continue
        if top.pid not in owners:
            owners[top.pid] = _is_for_us(top, everyone)
        if owners[top.pid] is not None:
            found[task.pid] = task is top and owners[top.pid] is True
    return found


def _is_for_us(top: Task, everyone: dict[int, Task]) -> bool | None:
    """Return True for a keeper of ours, False for an orphan, None for a stranger."""
    watched = _watched(top.pid)
    if os.getpid() in watched:
        return True
    if any(pid in everyone and not everyone[pid].is_ours for pid in watched):
        return None
    if os.geteuid() != 0:
        # Only root may look into a keeper, but a test user runs one test process.
        return True if _user(top.pid) == os.geteuid() else None
    return False


def _descriptor_kinds(pid: int | str) -> Counter[str]:
    """Count open descriptors by what they are, without numbers that vary."""
    kinds: Counter[str] = Counter()
    for entry in _list(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{entry}")
        except OSError:  # The descriptor that listed the directory.
            continue
        kinds[re.sub(r":\[\d+\]$", "", target)] += 1
    return kinds


def _cgroups(mountinfo: str) -> Iterator[str]:
    """
    Yield every control group of ours, and what is below it.

    They are made below ``/jailbox``, or below the group of the caller. The
    parents themselves belong to all users of jailbox and stay while a keeper
    lives.
    """
    own = {line.split(":", 2)[2] for line in _read("/proc/self/cgroup").splitlines()}
    for hierarchy in CGROUP_MOUNT.findall(mountinfo):
        for group in {"/", *own}:
            base = hierarchy + group.rstrip("/")
            for entry in _list(base):
                if entry.startswith("jailbox") and os.path.isdir(f"{base}/{entry}"):
                    yield from _below(f"{base}/{entry}")
                    if entry != "jailbox":
                        yield f"{base}/{entry}"


def _below(directory: str) -> Iterator[str]:
    for top, directories, _ in os.walk(directory):
        for name in directories:
            yield os.path.join(top, name)


def _state() -> Iterator[str]:
    """Yield what stands in the places where jailbox may keep files."""
    places = ["/run/jailbox", "/var/lib/jailbox", "/dev/shm/jailbox"]
    for variable, default in (
        ("XDG_RUNTIME_DIR", ""),
        ("XDG_DATA_HOME", "~/.local/share"),
        ("XDG_CACHE_HOME", "~/.cache"),
    ):
        if place := os.environ.get(variable, default):
            places.append(os.path.join(os.path.expanduser(place), "jailbox"))
    temporary = tempfile.gettempdir()
    for entry in _list(temporary):
        if entry.startswith("jailbox"):
            yield os.path.join(temporary, entry)
    for place in places:
        for top, directories, files in os.walk(place):
            for name in [*directories, *files]:
                yield os.path.join(top, name)


def _ipc() -> Iterator[str]:
    """Yield System V objects of the host's ipc namespace."""
    for kind in ("shm", "sem", "msg"):
        for line in _read(f"/proc/sysvipc/{kind}").splitlines()[1:]:
            key, number = line.split(None, 2)[:2]
            yield f"{kind} {number} (key {key})"
    for entry in _list("/dev/mqueue"):
        yield f"queue {entry}"


def _net_namespaces(pids: Iterable[int]) -> Iterator[str]:
    for pid in pids:
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/ns/net")


@attrs.frozen
class Census:
    """What was there at one moment. Lists are multisets: two are not one."""

    lists: dict[str, Counter[str]]

    @classmethod
    def take(cls) -> "Census":
        """Count everything now."""
        mountinfo = _read("/proc/self/mountinfo")
        everyone = tasks()
        ours = helpers(everyone)
        keepers = [pid for pid, is_keeper in ours.items() if is_keeper]
        # One keeper may live from the first start to the end of the process.
        ready = keepers[:1]
        names = Counter(
            f"{everyone[pid].name} (pid {pid})" for pid in ours if pid not in ready
        )
        held = sum(map(_descriptor_kinds, ready), Counter[str]())
        for kind in READY_KINDS:
            held[kind] -= READY
        children = {
            int(pid)
            for thread in _list("/proc/self/task")
            for pid in _read(f"/proc/self/task/{thread}/children").split()
        }
        return cls(
            {
                "mount": Counter(mountinfo.splitlines()),
                "control group": _ours(_cgroups(mountinfo)),
                "process": names,
                "child process": Counter(
                    f"{everyone[pid].name} (pid {pid})"
                    for pid in children & everyone.keys()
                ),
                "thread": Counter(
                    _read(f"/proc/self/task/{thread}/comm").strip()
                    for thread in _list("/proc/self/task")
                ),
                "descriptor": _descriptor_kinds("self"),
                "descriptor of the keeper": +held,
                "network namespace": Counter(
                    set(_net_namespaces(pid for pid in ours if pid not in ready))
                    - set(_net_namespaces([os.getpid()]))
                ),
                "network interface": Counter(_list("/sys/class/net")),
                "file": _ours(_state()),
                "ipc object": Counter(_ipc()),
            }
        )

    def since(self, before: "Census") -> list[str]:
        """Return, in words, what is here now and was not *before*."""
        return [
            f"{kind}: {name}" + (f" ({count} times)" if count > 1 else "")
            for kind, now in self.lists.items()
            for name, count in sorted((now - before.lists[kind]).items())
        ]


def leaked(
    before: Census,
    *,
    patience: float = PATIENCE,
    take: Callable[[], Census] = Census.take,
) -> list[str]:
    """
    Return what was left behind since *before*, in words.

    Args:
        before: The census to compare with.

        patience: Seconds to wait for what the kernel still frees.

        take: How to count.
    """
    deadline = time.monotonic() + patience
    pause = 0.002
    while found := take().since(before):
        if pause == 0.002:
            # What only a reference cycle keeps alive is late, not leaked.
            gc.collect()
        if time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return found


def settle() -> None:
    """Throw away what the keeper of this process has made ahead: it is no leak."""
    # A test that has imported nothing of ours must not notice that we look.
    choose = sys.modules.get("jailbox.engine.choose")
    if choose is not None and os.getpid() in choose._engines:
        choose.default_engine().settle()
