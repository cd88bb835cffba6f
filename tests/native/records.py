"""
Records as the library writes them: where damage begins, for readers of records.
"""

import functools
import struct
from collections.abc import Iterator

import attrs

from jailbox.linux.plan import (
    Attach,
    Back,
    Collect,
    Dir,
    Enter,
    File,
    Forth,
    Fs,
    Graft,
    Group,
    LaunchPlan,
    Link,
    Mask,
    Namespaces,
    Node,
    Op,
    Open,
    Overlay,
    Prepared,
    Program,
    ReadOnly,
    Root,
    Stage,
    Strike,
    Sysctl,
    Take,
    Tree,
)
from jailbox.linux.record import (
    KILL,
    SIGNAL,
    Descriptors,
    Work,
    encode_configure,
    encode_exec,
    encode_prepare,
    encode_start,
    encode_work,
    stamp_start,
)

_MESSAGE_KILL, _MESSAGE_SIGNAL = 3, 5
_OUTLIVE, _ROOTLESS, _SUBUID = 4, 1, 2
_NET, _LAYER = True, True

_OPS: tuple[Op, ...] = (
    Namespaces(),
    Fs(0, "tmpfs", ("mode=0700", "size=1048576", "uid=0", "gid=5")),
    Tree(1, "/usr", idmap=True),
    Tree(2, 3),
    Overlay(3, (1, 2), 0, "0", below=4),
    Fs(5, "proc"),
    Enter(),
    Root(3),
    Open(6, "/"),
    Dir(0, "names", exist_ok=True),
    File(0, "names/hosts", b"127.0.0.1 localhost\n"),
    Link(0, "names/mtab", "/proc/mounts"),
    Node(0, "null", 1, 3),
    Open(7, "names", 0),
    Attach(5, "proc", make="dir", strict=True),
    Attach(1, "usr/lib/deep/er", make="source"),
    Open(8, "/dev/null"),
    Mask("/proc/kcore", 6, 8),
    ReadOnly("/proc/sys", 1),
    Sysctl(5, "net/ipv4/ping_group_range", "0 65535"),
)

_BY_NAME: tuple[Op, ...] = (
    Namespaces(),
    Take(0),
    Tree(1, "/usr"),
    Enter(returns=True),
    Stage(),
    Overlay(2, (1,), -1, "below", volatile=False, by_name=True),
    Overlay(3, (2,), 0, "0", reuse=True, by_name=True),
    Strike(),
    Back(),
    Fs(5, "proc"),
    Forth(),
    Root(3),
)

_PROGRAM = Program(
    argv=("sh", "-c", "echo hello"),
    env=("PATH=/usr/bin:/bin", "HOME=/root"),
    path="/usr/bin:/bin:relative",
    cwd="/srv/work",
    make_cwd=True,
    uid=1000,
    gid=1000,
    groups=(4, 24, 1000),
    bounding=0xA80425FB,
    permitted=0xA80425FB,
    rlimits=((7, 1024, 4096), (4, 0, 0)),
    seccomp=bytes(range(64)),
    landlock=bytes(24),
    affinity=bytes(8),
    timeout=2.0,
)

_PLAN = LaunchPlan(
    namespaces=0x02000000,
    network=_NET,
    userns=True,
    groups=(
        Group(path="/sys/fs/cgroup/jailbox", shared=True),
        Group(
            path="/sys/fs/cgroup/memory/j",
            settings=(("memory.max", "1048576"),),
            join="into",
        ),
        Group(
            path="/sys/fs/cgroup/pids/j", settings=(("pids.max", "64"),), join="tasks"
        ),
    ),
    collect=(Collect(1, "memory.peak", "peak"), Collect(2, "pids.events", "events")),
    ops=_OPS,
    layer=0,
    keep_layer=_LAYER,
    hostname="box",
    domainname="example",
    wall=5.0,
    cpu_time=1.0,
    cpu_group=1,
    cpu_file="cpu.stat",
    cpu_key="usage_usec ",
    cpu_unit=1000,
    cpus=2,
    init_bounding=0xA80425FB,
    oom_score_adj=500,
    program=_PROGRAM,
)


def _start(plan: LaunchPlan, fds: Descriptors) -> bytes:
    record = encode_start(plan, fds)
    stamp_start(record, 7, "4711-box", 4)
    return bytes(record)


def records() -> Iterator[bytes]:
    """Give one record of each kind, and of some kinds several."""
    configure = functools.partial(
        encode_configure, uid=1000, gid=1000, id_first=0x40000000, id_ranges=4096
    )
    yield configure(
        flags=0,
        id_count=65536,
        lock_path="/run/jailbox/ids",
        parents=(
            Group(path="/sys/fs/cgroup/jailbox/k", settings=(("a", "b"),), shared=True),
        ),
        state="/run/jailbox/k.keeper",
    )
    maps = "0 1000 1 1 100000 65535"
    yield configure(
        flags=_OUTLIVE | _ROOTLESS | _SUBUID,
        id_count=65536,
        uid_map=maps,
        gid_map=maps,
        newuidmap="/usr/bin/newuidmap",
        newgidmap="/usr/bin/newgidmap",
    )
    yield configure(flags=_ROOTLESS, id_count=1)
    yield _start(_PLAN, Descriptors(stdin=1, stdout=2, stderr=3, sources=4))
    visited = Descriptors(stdout=1, listener=2, hold=3, home=1, layer=2, sources=4)
    yield _start(attrs.evolve(_PLAN, ops=_BY_NAME), visited)
    logged = attrs.evolve(_PROGRAM, log_limit=4096, groups=None)
    yield _start(attrs.evolve(_PLAN, program=logged), Descriptors(log=1, sources=2))
    terminal = attrs.evolve(_PROGRAM, tty=(80, 24), no_new_privs=False)
    agent = Program(agent=True, overlay=0)
    for program in (_PROGRAM, terminal, agent, attrs.evolve(agent, overlay=-1)):
        yield encode_exec(program, Descriptors(stdin=1, stdout=2, stderr=3))
    yield encode_prepare(
        Prepared(
            key="stack",
            ops=(Fs(0, "tmpfs"), Dir(0, "0"), Tree(1, "/usr"), Graft(0, "0", 1)),
        ),
        3,
    )
    options = struct.pack("<4Iq", 1, 0, 0, 0, 0)
    for kind in range(1, 6):
        for lowers in ((), (9, 9)):
            yield encode_work(
                Work(
                    kind=kind,
                    flags=len(lowers) // 2,
                    tree=5,
                    stream=6,
                    notes=7,
                    lowers=lowers,
                    name=b"upper",
                    space=b"work",
                    options=options,
                    max_bytes=1 << 20,
                    max_entries=1000,
                    max_depth=64,
                )
            )
    yield KILL.pack(_MESSAGE_KILL, 0, 7)
    yield KILL.pack(_MESSAGE_KILL, 1, 7)
    yield SIGNAL.pack(_MESSAGE_SIGNAL, 15, 0, 0)
    yield SIGNAL.pack(_MESSAGE_SIGNAL, 9, 1, 0)
