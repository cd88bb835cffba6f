"""
The root of a jail, as a list of operations.

Layers, kernel file systems, devices, mounts and masks: none of it is touched here.

The order is that of ``security.md`` B.3 for a root built from descriptors: what needs
the host's view comes first, then the jail's own namespaces, then the rest of the root.
"""

import attrs

from jailbox.linux.facts import HostFacts
from jailbox.linux.plan import (
    ATTR_NODEV,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    Attach,
    Back,
    Dir,
    Enter,
    Forth,
    Fs,
    Lay,
    Link,
    Map,
    Mask,
    Namespaces,
    Node,
    Open,
    Overlay,
    Past,
    ReadOnly,
    Root,
    Sysctl,
    Take,
    Tree,
)
from jailbox.run.overlays import (
    Lowers,
    Overlays,
    Slots,
    names_layer,
    past_layers,
    root_overlay,
)
from jailbox.run.rootfs import Rootfs
from jailbox.spec.container import ContainerSpec
from jailbox.spec.mount import Bind, Cow, Device, Tmpfs
from jailbox.spec.security import (
    DEFAULT_MASKED_PATHS,
    DEFAULT_NETWORK_SYSCTLS,
    sysctl_path,
)

__all__ = ["maps_layers", "root_ops"]

_SAFE = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
_DEV_SIZE = 64 << 10
_SHM_SIZE = 64 << 20
_TTY_GID = 5

_MOUNT_POINTS_OF_SYSFS = frozenset(
    {
        "/sys/fs/bpf",
        "/sys/fs/pstore",
        "/sys/kernel/debug",
        "/sys/kernel/security",
        "/sys/kernel/tracing",
    }
)

_DEVICES = (
    ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8),
    ("urandom", 1, 9), ("tty", 5, 0),
)  # fmt: skip

_DEV_LINKS = (
    ("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
)  # fmt: skip

_MKNOD = 27


def _tmpfs_options(size: int | None, inodes: int | None, mode: int) -> tuple[str, ...]:
    options = [f"mode={mode:o}"]
    if size is not None:
        options.append(f"size={size}")
    if inodes is not None:
        options.append(f"nr_inodes={inodes}")
    return tuple(options)


def maps_layers(spec: ContainerSpec, facts: HostFacts) -> bool:
    """
    Whether what containers write belongs to the ids of their image, in their layers.

    Only then another jail, with ids of its own, can have such a layer below.
    """
    return (
        facts.can_overlay_idmapped
        and facts.can_clone_detached
        and spec.security.userns == "private"
    )


def root_ops(
    slots: Slots,
    spec: ContainerSpec,
    facts: HostFacts,
    rootfs: Rootfs,
    lowers: Lowers,
    names: tuple[tuple[str, bytes], ...],
    *,
    reuse: bool,
    given: bool = False,
) -> int:
    """
    Put the root of a jail together.

    Args:
        slots: Where operations are added.

        spec: What is wanted.

        facts: The machine.

        rootfs: What the root is put together from.

        lowers: How its layers are come by.

        names: The files that name things.

        reuse: The writable layer is one from an earlier start.

        given: The writable layer is a directory of the caller's.

    Returns:
        The slot of the writable layer.
    """
    idmap = facts.can_overlay_idmapped and spec.security.userns == "private"
    # In a user namespace the kernel does not let us leave out what is mounted below.
    deep = not facts.is_rootful
    private = spec.network.private
    fresh_sysfs = private or facts.is_rootful
    masks = _masks(spec, facts, fresh_sysfs=fresh_sysfs)
    slots.add(Namespaces())
    layer = plain = slots.new()
    if reuse:
        slots.add(Take(layer, idmapped=given and idmap))
    elif given:
        slots.add(Lay(layer, idmap=idmap))
    else:
        size, inodes = spec.limits.disk, spec.limits.inodes
        slots.add(Fs(layer, "tmpfs", _tmpfs_options(size, inodes, 0o700), 0))
    if maps_layers(spec, facts) and lowers.compare and not given:
        layer = slots.new()
        slots.add(Map(layer, plain))
    past = tuple(slots.new() for _ in range(lowers.past))
    slots.add(*(Past(slot, index, idmap) for index, slot in enumerate(past)))
    attr = ATTR_NOSUID | ATTR_NODEV
    overlays = Overlays(slots, facts, reuse=reuse or given, given=given)
    top = root_overlay(
        slots,
        rootfs,
        lowers,
        layer,
        deep=deep,
        idmap=idmap,
        past=past_layers(slots, past, "0"),
    )
    if names and rootfs.etc is not None:
        place = None if overlays.by_name else layer
        named = names_layer(slots, place, rootfs.etc, names)
        top = attrs.evolve(top, given=named)
    root = overlays.add(top)
    behind = len(slots.ops)
    halves = set()
    # After the root: the kernel lists mounts in the order in which they were made, and
    # programs take the first one for the root.
    proc, sysfs = slots.new(), slots.new()
    slots.add(Fs(proc, "proc", (), _SAFE))
    # Only who owns the network namespace may have a sysfs of it.
    if fresh_sysfs:
        slots.add(Fs(sysfs, "sysfs", (), _SAFE | ATTR_RDONLY))
    else:
        slots.add(Tree(sysfs, "/sys", _SAFE | ATTR_RDONLY))
    attached: list[tuple[int, str]] = []
    for number, overlay in enumerate(rootfs.overlays, 1):
        lower, merged = slots.new(), slots.new()
        slots.add(Tree(lower, overlay.source, attr, recursive=deep, idmap=idmap))
        above = past_layers(slots, past, str(number))
        halves |= {lower, *above}
        below = slots.new() if above else -1
        overlays.add(Overlay(merged, (*above, lower), layer, str(number), below=below))
        attached.append((merged, overlay.target))
    for shown in rootfs.shown:
        tree = slots.new()
        slots.add(
            Tree(tree, shown.source, attr | ATTR_RDONLY, recursive=deep, idmap=idmap)
        )
        attached.append((tree, shown.target))
    wanted = _mount_sources(slots, spec, idmap=idmap)
    devices = _device_sources(slots, facts)
    dev, pts, shm, mqueue = (slots.new() for _ in range(4))
    slots.add(
        # The jail's root may put something there, as in every other container.
        Fs(
            dev,
            "tmpfs",
            (*_tmpfs_options(_DEV_SIZE, None, 0o755), "uid=0", "gid=0"),
            ATTR_NOSUID | ATTR_NOEXEC,
        ),
        Fs(pts, "devpts", _devpts(facts, spec), ATTR_NOSUID | ATTR_NOEXEC),
        Fs(
            shm,
            "tmpfs",
            _tmpfs_options(spec.limits.shm or _SHM_SIZE, None, 0o1777),
            _SAFE,
        ),
        Fs(mqueue, "mqueue", (), _SAFE),
    )
    if overlays.late:
        made, slots.ops[behind:] = slots.ops[behind:], []
        of_overlays = [
            op for op in made if isinstance(op, Tree | Open) and op.slot in halves
        ]
        slots.add(*of_overlays, Enter(returns=True))
        overlays.finish()
        slots.add(Back(), *(op for op in made if op not in of_overlays), Forth())
    else:
        slots.add(Enter())
    nothing = slots.new()
    if masks:
        slots.add(Open(nothing, "/"))
    slots.add(Root(root))
    for slot, target in attached:
        slots.add(Attach(slot, target, make="source"))
    slots.add(
        Attach(proc, "proc", make="dir", strict=True),
        Attach(sysfs, "sys", make="dir", strict=True),
    )
    if spec.tty is not None:
        # The first terminal of its own devpts is that of the main program.
        slots.add(Link(dev, "console", "pts/0"))
    _dev_ops(slots, dev, pts, shm, mqueue, devices)
    _protect(slots, spec, facts, proc, masks, nothing)
    for slot, target, make in wanted:
        slots.add(Attach(slot, target, make=make))
    if spec.read_only:
        slots.add(ReadOnly("/"))
        # What was wanted to be changed is no part of the root.
        own = {mount.target for mount in spec.mounts if isinstance(mount, Cow)}
        slots.add(
            *(
                ReadOnly(shown.target)
                for shown in rootfs.overlays
                if shown.target not in own
            )
        )
    return layer


def _masks(
    spec: ContainerSpec, facts: HostFacts, *, fresh_sysfs: bool
) -> tuple[str, ...]:
    """
    Choose the paths that have to be covered; each costs 16 us.

    What only root may open needs no cover from those who cannot be root, and where
    other file systems are mounted a fresh sysfs has empty directories.
    """
    bare = set()
    if spec.security.userns == "private":
        bare |= set(facts.guarded)
    if fresh_sysfs:
        bare |= _MOUNT_POINTS_OF_SYSFS
    return tuple(
        path
        for path in spec.security.masked_paths
        # A path of the caller's may be one of the image's.
        if (path in facts.masks or path not in DEFAULT_MASKED_PATHS)
        and path not in bare
    )


def _devpts(facts: HostFacts, spec: ContainerSpec) -> tuple[str, ...]:
    options = ["newinstance", "ptmxmode=0666", "mode=0620"]
    if facts.id_mode != "single" or spec.security.userns == "host":
        options.append(f"gid={_TTY_GID}")
    return tuple(options)


def _device_sources(slots: Slots, facts: HostFacts) -> dict[str, int]:
    """Where nodes cannot be made, the host's are cloned; slots by name."""
    if facts.is_rootful and facts.has_cap(_MKNOD):
        return {}
    found = {}
    for name, _, _ in _DEVICES:
        found[name] = slots.new()
        slots.add(
            Tree(
                found[name],
                f"/dev/{name}",
                ATTR_NOSUID | ATTR_NOEXEC,
                recursive=False,
            )
        )
    return found


def _dev_ops(
    slots: Slots, dev: int, pts: int, shm: int, mqueue: int, devices: dict[str, int]
) -> None:
    if not devices:
        slots.add(*(Node(dev, name, major, minor) for name, major, minor in _DEVICES))
    slots.add(*(Link(dev, name, target) for name, target in _DEV_LINKS))
    slots.add(Dir(dev, "pts"), Dir(dev, "shm", 0o1777), Dir(dev, "mqueue", 0o1777))
    slots.add(Attach(dev, "dev", make="dir", strict=True))
    slots.add(
        Attach(pts, "dev/pts", strict=True),
        Attach(shm, "dev/shm", strict=True),
        Attach(mqueue, "dev/mqueue", strict=True),
    )
    for name, slot in devices.items():
        slots.add(Attach(slot, f"dev/{name}", make="file", strict=True))


def _protect(
    slots: Slots,
    spec: ContainerSpec,
    facts: HostFacts,
    proc: int,
    masks: tuple[str, ...],
    nothing: int,
) -> None:
    """Settings first, while they can be written; then masks over our own nodes."""
    sysctls = dict(spec.security.sysctls)
    if spec.network.private:
        for key, value in DEFAULT_NETWORK_SYSCTLS.items():
            if key not in sysctls:
                slots.add(Sysctl(proc, sysctl_path(key), _ids_of(key, value, facts)))
    for key, value in sysctls.items():
        slots.add(Sysctl(proc, sysctl_path(key), value))
    for path in spec.security.readonly_paths:
        slots.add(ReadOnly(path, _SAFE))
    if masks:
        null = slots.new()
        slots.add(Open(null, "/dev/null"))
        slots.add(*(Mask(path, nothing, null) for path in masks))


def _ids_of(key: str, value: str, facts: HostFacts) -> str:
    """A range of groups can only name groups that are mapped."""
    if not key.endswith("ping_group_range"):
        return value
    last = {"single": 0, "subuid": 65535}.get(facts.id_mode)
    return value if last is None else f"0 {last}"


def _mount_sources(
    slots: Slots, spec: ContainerSpec, *, idmap: bool
) -> list[tuple[int, str, str]]:
    """Open what the caller wants mounted: (slot, target, what to make)."""
    wanted = []
    for mount in sorted(spec.mounts, key=lambda m: m.target.count("/")):
        if isinstance(mount, Cow):
            continue  # an overlay of the root (`jailbox.run.rootfs.with_copies`)
        slot = slots.new()
        make = "dir"
        match mount:
            case Bind():
                attr = ATTR_NOSUID | ATTR_NODEV
                attr |= 0 if mount.writable else ATTR_RDONLY
                attr |= 0 if mount.exec else ATTR_NOEXEC
                # Only what is written must come to belong to the caller.
                slots.add(
                    Tree(
                        slot,
                        mount.source,
                        attr,
                        recursive=mount.recursive,
                        idmap=idmap,
                    )
                )
                make = "source"
            case Tmpfs():
                options = [*_tmpfs_options(mount.size, mount.inodes, mount.mode)]
                options += [f"uid={mount.uid}", f"gid={mount.gid}"]
                attr = ATTR_NOSUID | ATTR_NODEV | (0 if mount.exec else ATTR_NOEXEC)
                attr |= 0 if mount.writable else ATTR_RDONLY
                slots.add(Fs(slot, "tmpfs", tuple(options), attr))
            case Device():
                attr = ATTR_NOSUID | ATTR_NOEXEC
                attr |= 0 if "w" in mount.permissions else ATTR_RDONLY
                slots.add(Tree(slot, mount.path, attr, recursive=False))
                make = "file"
        wanted.append((slot, mount.target, make))
    return wanted
