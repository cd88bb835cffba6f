"""
What to do when the kernel refuses: the table (step, errno) -> advice.

One sentence for the cause, one for the way out, with its price where it loosens
something. `hint` is pure; it looks at `HostFacts` where one errno has several causes
that the facts tell apart.

Not for messages: those are made of facts by `jailbox.errors`. An advice is a note
beside them.
"""

import errno
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from jailbox.linux.facts import HostFacts

__all__ = ["STEPS", "Step", "hint"]

Step = Literal[
    "spawn",
    "record",
    "userns",
    "idmap",
    "template",
    "cgroup",
    "clone",
    "life",
    "cgroup_join",
    "fs",
    "tree",
    "overlay",
    "enter",
    "loopback",
    "namespaces",
    "network",
    "root",
    "attach",
    "dir",
    "link",
    "node",
    "file",
    "mask",
    "readonly",
    "sysctl",
    "hostname",
    "keyring",
    "identity",
    "fork",
    "tty",
    "stdio",
    "rlimit",
    "priority",
    "chdir",
    "capabilities",
    "no_new_privs",
    "landlock",
    "seccomp",
    "exec",
    "work",
]

STEPS: tuple[str, ...] = get_args(Step)
"""Every step at which a start can be refused."""

Advice: TypeAlias = str | Callable[[HostFacts | None, str], str]
"""A text, or a function that chooses one by facts and by what was worked on."""


# --- causes that need the facts ---------------------------------------------

FILTERED = (
    "The container around this program filters system calls and blocks namespaces. "
    "Start it with: docker run --security-opt seccomp=unconfined --security-opt "
    "systempaths=unconfined, or use podman. Price: the outer container loses its "
    "filter and its masks, not its namespaces."
)

STRIPPED = (
    "AppArmor lets ordinary programs make user namespaces only without rights (Ubuntu "
    "23.10 and later). As root: sysctl -w "
    "kernel.apparmor_restrict_unprivileged_userns=0, or write a profile with the rule "
    "'userns,' for this interpreter. Price: every program of every user can reach "
    "kernel code that namespaces open; the profile opens it to one program only."
)

SWITCHED_OFF = (
    "User namespaces are switched off for ordinary users. As root: sysctl -w "
    "kernel.unprivileged_userns_clone=1. Price: every user can reach kernel code that "
    "namespaces open."
)

NONE_ALLOWED = (
    "No user namespaces are allowed here. As root: sysctl -w "
    "user.max_user_namespaces=15000. Price: every user can reach kernel code that "
    "namespaces open."
)

MASKED_PROC = (
    "Parts of /proc are covered, so the kernel lets no user namespace mount a fresh "
    "one. Start the container around this program with: docker run --security-opt "
    "systempaths=unconfined, or podman run --security-opt unmask=ALL. Price: programs "
    "in the outer container see the kernel's tables in /proc."
)


def _namespaces_refused(facts: HostFacts | None, _: str) -> str:
    """Tell apart why a namespace was not permitted."""
    if facts is not None:
        if facts.max_user_namespaces == 0:
            return NONE_ALLOWED
        if facts.userns_stripped_by_apparmor:
            return STRIPPED
        if facts.unprivileged_userns_clone is False and not facts.is_rootful:
            return SWITCHED_OFF
        if facts.seccomp_mode == 2:  # noqa: PLR2004
            return FILTERED
    return (
        "Namespaces are not permitted here: a seccomp filter of a container around "
        "this program, kernel.apparmor_restrict_unprivileged_userns, "
        "kernel.unprivileged_userns_clone, or a chroot (the kernel makes no user "
        "namespace for a program in one). jailbox.doctor() tells which."
    )


def _too_many_namespaces(facts: HostFacts | None, _: str) -> str:
    """Tell apart why there is no room for a namespace."""
    if facts is not None and facts.max_user_namespaces == 0:
        return NONE_ALLOWED
    return (
        "The number of namespaces is bounded and used up. As root, raise the one that "
        "is full: sysctl user | grep max_. Dead network namespaces count until the "
        "kernel has freed them: wait a second and try again. User and PID namespaces "
        "nest 32 deep at most."
    )


def _id_map_refused(facts: HostFacts | None, _: str) -> str:
    """Tell apart why an id map was not taken."""
    if facts is not None:
        if facts.userns_stripped_by_apparmor:
            return STRIPPED
        reason = facts.why_single_id
        if reason is not None and not facts.is_rootful:
            return (
                f"Only the one id of this user can be mapped: {reason}. As root: "
                "apt-get install uidmap; usermod --add-subuids 100000-165535 "
                "--add-subgids 100000-165535 USER. Price: those ids belong to the "
                "user from then on, files of theirs too."
            )
    return (
        "The kernel did not take the id map. Ranges must lie in /etc/subuid and "
        "/etc/subgid for this user, and must not overlap."
    )


def _out_of_processes(facts: HostFacts | None, _: str) -> str:
    """Tell what bounds processes."""
    own = facts.rlimit("nproc") if facts is not None else None
    known = f" ({own.soft})" if own is not None and own.soft >= 0 else ""
    return (
        f"No more processes: the limit of this user{known}, pids.max of a control "
        "group around this program, or kernel.threads-max is reached. See ulimit -u "
        "and /sys/fs/cgroup/**/pids.max."
    )


def _group_refused(facts: HostFacts | None, _: str) -> str:
    """Repeat what the layout knows about its groups."""
    if facts is not None:
        for controller in ("memory", "pids", "cpu", "cpuset"):
            refusal = facts.cgroups.refusal(controller)
            if refusal is not None:
                return f"{refusal.reason.capitalize()}. {refusal.remedy}"
    return (
        "Control groups are not writable for this user. With systemd: systemd-run "
        "--user --scope -p Delegate=yes PROGRAM."
    )


def _fs_refused(facts: HostFacts | None, kind: str) -> str:
    """Tell apart why a file system was not permitted, by its type."""
    if kind == "proc":
        return MASKED_PROC
    if kind == "sysfs":
        return (
            "sysfs needs a network namespace of the jail's own: use network='none' or "
            "a network, not network='host'."
        )
    if kind in {"cgroup", "cgroup2"}:
        return "cgroup2 needs a cgroup namespace of the jail's own."
    if kind in {"ext4", "xfs", "btrfs", "erofs", "squashfs", "bpf"}:
        return f"{kind} cannot be mounted in a user namespace: only root may."
    if facts is not None and facts.seccomp_mode == 2:  # noqa: PLR2004
        return FILTERED
    return (
        "Mounting is not permitted here. If a container is around this program, its "
        "seccomp profile or AppArmor forbids it."
    )


def _fs_unknown(_: HostFacts | None, kind: str) -> str:
    """Name the file system that the kernel lacks."""
    name = kind or "this file system"
    return (
        f"The kernel does not know {name}. As root: modprobe {kind or 'NAME'}, or use "
        "a kernel that has it."
    )


def _overlay_refused(facts: HostFacts | None, _: str) -> str:
    """Tell apart why an overlay was not permitted."""
    if facts is not None and not facts.is_rootful and not facts.can_overlay:
        return (
            "Ordinary users may mount overlays since Linux 5.11; this is "
            f"{facts.release}. Run as root, or on a newer kernel."
        )
    return (
        "The upper layer's file system takes no 'user.' attributes, or its owner is "
        "not mapped in the jail. Use a tmpfs upper layer, or a store on ext4, xfs or "
        "btrfs."
    )


def _rlimit_refused(facts: HostFacts | None, name: str) -> str:
    """Name the hard limit that cannot be raised."""
    own = facts.rlimit(name) if facts is not None and name else None
    bound = f" (here {own.hard})" if own is not None and own.hard >= 0 else ""
    return (
        f"A hard limit{bound} can only be raised with CAP_SYS_RESOURCE, which even "
        "root may lack. Ask for less, or raise it where this program is started: "
        "LimitNOFILE= in a unit, --ulimit for a container."
    )


def _no_landlock(facts: HostFacts | None, _: str) -> str:
    """Tell apart absent and switched off."""
    if facts is not None and facts.lsms and "landlock" not in facts.lsms:
        return (
            "Landlock is not among the kernel's active security modules. Add it to "
            "lsm= on the kernel's command line, or allow to go on without: "
            "Security(degrade={'landlock'})."
        )
    return (
        "The kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, Linux 5.13; scopes "
        "since 6.12), or it was switched off at boot. To go on without: "
        "Security(degrade={'landlock'})."
    )


def _not_found(_: HostFacts | None, path: str) -> str:
    """Explain the errno with two causes that people meet daily."""
    name = path or "the program"
    return (
        f"{name} does not exist in the jail, or it does and the interpreter it names "
        "does not: the one after #!, or the dynamic loader of another libc (a glibc "
        "program in an image with musl). Image.host() hides home directories: mount "
        "what you need."
    )


# --- the table --------------------------------------------------------------

_NO_LOCKED = (
    "The kernel clones no tree that hides mounts from a user namespace: the source has "
    "mounts below it. Mount the whole (recursive), or a directory without mounts "
    "below; / itself never works."
)
_ESCAPES = (
    "The path leads out of the jail's root or through a link that may not be followed "
    "(everything in a rootfs is resolved inside of it). Name the real directory."
)
_UNMAPPED_OWNER = (
    "The directory belongs to a user that does not exist in the jail, so the kernel "
    "could not store an owner for the new file. Unpack the image as this user "
    "(--no-same-owner), or use subordinate ids."
)
_TOO_MANY_MOUNTS = (
    "A mount namespace may hold fs.mount-max mounts. Mount fewer, or as root: sysctl "
    "-w fs.mount-max=200000."
)

_TABLE: dict[tuple[str, int], Advice] = {
    ("spawn", errno.EAGAIN): _out_of_processes,
    ("spawn", errno.ENOMEM): "Memory for a small process was refused: see "
    "vm.overcommit_memory, and the memory limit of a group around this program.",
    ("spawn", errno.EACCES): "The helper could not be executed from memory. As root: "
    "sysctl -w vm.memfd_noexec=0; or a security module forbids it.",
    ("spawn", errno.EPERM): "A seccomp filter or security module forbids to start a "
    "process from memory (memfd_create, execveat).",
    ("userns", errno.EPERM): _namespaces_refused,
    ("userns", errno.EACCES): _namespaces_refused,
    ("userns", errno.ENOSPC): _too_many_namespaces,
    ("userns", errno.EINVAL): "The kernel was built without user namespaces "
    "(CONFIG_USER_NS).",
    ("idmap", errno.EPERM): _id_map_refused,
    ("idmap", errno.EINVAL): _id_map_refused,
    ("idmap", errno.EACCES): _id_map_refused,
    ("idmap", errno.ENOENT): _id_map_refused,
    ("clone", errno.EPERM): _namespaces_refused,
    ("clone", errno.EACCES): "The first process may not be born in the planned control "
    "group: its cgroup.procs, and that of the common parent, must be writable. "
    "Start the program in a delegated scope: systemd-run --user --scope -p "
    "Delegate=yes PROGRAM.",
    ("clone", errno.EBUSY): "The planned control group gives controllers to children "
    "and so holds no processes itself. Something else made groups in it.",
    ("clone", errno.EOPNOTSUPP): "The planned control group is in an invalid state "
    "('domain invalid'): a parent is threaded. Choose another parent.",
    ("clone", errno.EBADF): "A control group of version 1 cannot be cloned into.",
    ("clone", errno.ENOSYS): "The kernel, or the seccomp profile of an old container "
    "runtime around this program, has no clone3 (Linux 5.3). Upgrade the runtime, or: "
    "docker run --security-opt seccomp=unconfined. Price: the outer container loses "
    "its filter.",
    ("clone", errno.EAGAIN): _out_of_processes,
    ("clone", errno.ENOSPC): _too_many_namespaces,
    ("clone", errno.ENOMEM): "No memory for another process, or the first process of "
    "the PID namespace is gone and the kernel puts no more into it.",
    ("fork", errno.EAGAIN): _out_of_processes,
    ("fork", errno.ENOMEM): "No memory for another process within the jail's limit. "
    "Raise memory=.",
    ("cgroup", errno.EACCES): _group_refused,
    ("cgroup", errno.EPERM): _group_refused,
    ("cgroup", errno.EROFS): _group_refused,
    ("cgroup", errno.ENOENT): "The file of that limit is not there: the controller is "
    "not given to this group, or the kernel lacks it (see cgroup.controllers).",
    ("cgroup", errno.EEXIST): "A control group of that name is there already, and may "
    "be frozen or somebody else's. Remove it (rmdir), or choose another name.",
    ("cgroup", errno.EBUSY): "Controllers cannot be given to children of a group that "
    "holds processes itself. Let the program run one level deeper: "
    "DelegateSubgroup=main in its unit.",
    ("cgroup", errno.EINVAL): "The kernel refused the value: a parent's limit is "
    "tighter, or processors or memory nodes are not there.",
    ("cgroup", errno.ENOSPC): "No more control groups: 65535 with memory are there, "
    "counting dead ones whose page cache is not freed yet. As root: echo 2 > "
    "/proc/sys/vm/drop_caches.",
    ("cgroup", errno.EAGAIN): "A parent's cgroup.max.descendants or cgroup.max.depth "
    "is reached.",
    ("cgroup", errno.ENODEV): "The control group was removed by somebody else while "
    "the jail was made.",
    ("cgroup_join", errno.ENOSPC): "A cpuset without processors or memory nodes takes "
    "nobody: cpuset.cpus and cpuset.mems of a parent are empty.",
    ("cgroup_join", errno.EACCES): _group_refused,
    ("cgroup_join", errno.EPERM): _group_refused,
    ("cgroup_join", errno.ENODEV): "The control group was removed by somebody else "
    "while the jail was made.",
    ("cgroup_join", errno.EINVAL): "Processes with real-time scheduling cannot enter a "
    "cpu group without a share of real time. Start from a normal priority.",
    ("cgroup_join", errno.EBUSY): "The group gives controllers to children and so "
    "holds no processes itself.",
    ("namespaces", errno.EPERM): _namespaces_refused,
    ("namespaces", errno.ENOSPC): _too_many_namespaces,
    ("namespaces", errno.EINVAL): "The kernel was built without one of the namespaces: "
    "see /proc/self/ns.",
    ("network", errno.EPERM): _namespaces_refused,
    ("network", errno.ENOSPC): _too_many_namespaces,
    ("network", errno.ENODEV): "The network namespace has no such device: it vanished, "
    "or the kernel lacks it.",
    ("network", errno.EACCES): "/dev/net/tun is not accessible for this user. As root: "
    "chmod 0666 /dev/net/tun. Price: every user can make virtual network devices in "
    "namespaces of their own.",
    ("fs", errno.EPERM): _fs_refused,
    ("fs", errno.EACCES): _fs_refused,
    ("fs", errno.ENODEV): _fs_unknown,
    ("fs", errno.EINVAL): "The kernel does not take an option of this file system; it "
    "may be older than the option.",
    ("fs", errno.EBUSY): "The file system can be mounted once only, or the kernel "
    "wants other options for it.",
    ("fs", errno.ENOSPC): _TOO_MANY_MOUNTS,
    ("fs", errno.ENOSYS): "The new mount calls are missing: Linux 5.2, or a seccomp "
    "filter around this program.",
    ("tree", errno.ENOENT): "The source of a mount does not exist. Nothing is created "
    "on the host: make it first.",
    ("tree", errno.ENOTDIR): "A part of the source's path is not a directory.",
    ("tree", errno.EACCES): "The source of a mount is not readable for this user.",
    ("tree", errno.EINVAL): _NO_LOCKED
    + " As root, it may also stand on a file system that cannot show other owners, as "
    "a tmpfs before Linux 6.3: mount a directory of another one.",
    ("tree", errno.EPERM): "Cloning mounts is not permitted: a seccomp filter, or "
    "idmapped mounts of a file system that does not belong to our user namespace "
    "(only root may).",
    ("tree", errno.ELOOP): "The source's path has too many links, or one that may not "
    "be followed.",
    ("tree", errno.ENOSPC): _TOO_MANY_MOUNTS,
    (
        "tree",
        errno.ENOSYS,
    ): "The call open_tree is missing: Linux 5.2, or a seccomp filter "
    "around this program.",
    ("overlay", errno.EPERM): _overlay_refused,
    ("overlay", errno.EACCES): _overlay_refused,
    ("overlay", errno.EINVAL): "An overlay takes no upper layer on another overlay, as "
    "in most containers, at most 500 layers, and no layer with hidden mounts below. "
    "Put the store on a volume, or use a tmpfs upper layer.",
    ("overlay", errno.ELOOP): "Overlays are stacked too deep: the kernel allows two. "
    "Put the store on a volume of the outer container.",
    ("overlay", errno.ENODEV): "The kernel has no overlay file system. As root: "
    "modprobe overlay.",
    ("overlay", errno.EBUSY): "The upper or work directory is in use by another "
    "overlay.",
    ("overlay", errno.ESTALE): "The upper layer was used with other layers below. "
    "Use a fresh one.",
    ("overlay", errno.EOVERFLOW): "The owner of the work directory is not mapped: an "
    "upper layer cannot be idmapped.",
    ("overlay", errno.EROFS): "The upper layer's file system is read-only.",
    ("overlay", errno.ENOENT): "A layer is gone. If images were removed meanwhile, "
    "pull or build again.",
    ("record", errno.EPROTO): "The helper and the library speak different versions: "
    "the installation is mixed up. Install jailbox anew.",
    ("record", errno.EINVAL): "The helper did not understand the plan: the "
    "installation is mixed up, or this is a mistake in jailbox. Please report it.",
    ("template", errno.EPERM): _namespaces_refused,
    ("template", errno.EACCES): _namespaces_refused,
    ("template", errno.ENOSPC): _too_many_namespaces,
    ("template", errno.EAGAIN): _out_of_processes,
    ("life", errno.ESRCH): "The keeper ended while the jail was made.",
    ("loopback", errno.EPERM): _namespaces_refused,
    ("loopback", errno.EAFNOSUPPORT): "The kernel was built without IPv4.",
    ("loopback", errno.EACCES): "A security module or filter around this program "
    "forbids sockets.",
    ("keyring", errno.ENOSYS): "The kernel has no keyrings, or a filter around this "
    "program hides them. Nothing is lost: there are none to leave.",
    ("keyring", errno.EDQUOT): "This user has too many keyrings. As root: sysctl -w "
    "kernel.keys.maxkeys=2000.",
    ("keyring", errno.EPERM): FILTERED,
    ("stdio", errno.EINVAL): "What pass_fds= names is not what was sent along.",
    ("stdio", errno.ENOENT): "The jail has no /dev/null. Do not mount over /dev.",
    ("stdio", errno.EACCES): "The jail's /dev/null cannot be opened by its user: /dev "
    "is mounted nodev, or closed.",
    ("priority", errno.EACCES): "A higher priority, or a lower oom_score_adj than our "
    "own, needs CAP_SYS_NICE or CAP_SYS_RESOURCE. Ask for less.",
    ("priority", errno.EPERM): "A higher priority, or a lower oom_score_adj than our "
    "own, needs CAP_SYS_NICE or CAP_SYS_RESOURCE. Ask for less.",
    ("priority", errno.EINVAL): "None of the processors of cpuset= is here, or those "
    "here are not allowed to this program.",
    ("capabilities", errno.EPERM): "A capability was asked for that this program does "
    "not have itself: see CapBnd in /proc/self/status.",
    ("no_new_privs", errno.EINVAL): "The kernel has no no_new_privs (Linux 3.5).",
    ("enter", errno.EPERM): _namespaces_refused,
    ("enter", errno.ENOSPC): _too_many_namespaces,
    ("enter", errno.EINVAL): "The namespace could not be entered: a program with "
    "several threads cannot change its user namespace, or it is gone.",
    ("root", errno.EPERM): _fs_refused,
    ("root", errno.EINVAL): "The new root is no mount point, or the mounts around it "
    "are shared.",
    ("root", errno.EBUSY): "The new root is the old one.",
    ("attach", errno.ENOENT): "The target of a mount does not exist in the jail, and "
    "its root is read-only, so it could not be made.",
    ("attach", errno.ENOTDIR): "A directory can only be mounted on a directory, a file "
    "on a file.",
    ("attach", errno.ELOOP): _ESCAPES,
    ("attach", errno.EXDEV): _ESCAPES,
    ("attach", errno.EPERM): _fs_refused,
    ("attach", errno.EINVAL): "The tree cannot be attached there: detached trees take "
    "mounts since Linux 6.15, and shared mounts cannot be moved.",
    ("attach", errno.ENOSPC): _TOO_MANY_MOUNTS,
    ("dir", errno.EOVERFLOW): _UNMAPPED_OWNER,
    ("dir", errno.EACCES): _UNMAPPED_OWNER,
    ("dir", errno.EROFS): "The root is read-only and has no such directory. Make it in "
    "the image, or mount a tmpfs above.",
    ("dir", errno.ENOTDIR): "A part of the path is a file in the image.",
    ("dir", errno.EEXIST): "A file is in the way.",
    ("dir", errno.ELOOP): _ESCAPES,
    ("dir", errno.EXDEV): _ESCAPES,
    ("link", errno.EEXIST): "A file is in the way of a symbolic link.",
    ("link", errno.EOVERFLOW): _UNMAPPED_OWNER,
    ("link", errno.EROFS): "The root is read-only.",
    ("node", errno.EPERM): "Devices cannot be made in a user namespace; they are "
    "mounted from the host. nodev mounts make them useless besides.",
    ("node", errno.ENOENT): "The host has no such device.",
    ("node", errno.EACCES): "The device is not accessible for this user.",
    ("node", errno.EXDEV): _ESCAPES,
    ("file", errno.EROFS): "The root is read-only and the file could not be written.",
    ("file", errno.EISDIR): "A directory is in the way of a file.",
    ("file", errno.EOVERFLOW): _UNMAPPED_OWNER,
    ("file", errno.EACCES): _UNMAPPED_OWNER,
    ("file", errno.ELOOP): _ESCAPES,
    ("file", errno.EXDEV): _ESCAPES,
    ("mask", errno.ENOENT): "A path to mask vanished between looking and masking.",
    ("mask", errno.ELOOP): "A path to mask is a link. Mask what it points to.",
    ("mask", errno.EPERM): _fs_refused,
    ("readonly", errno.EPERM): "Flags that were locked outside of the user namespace "
    "cannot be taken off a mount.",
    (
        "readonly",
        errno.EINVAL,
    ): "The call mount_setattr does not know a flag: Linux 5.12.",
    (
        "readonly",
        errno.ENOSYS,
    ): "The call mount_setattr is missing: Linux 5.12, or a seccomp "
    "filter around this program.",
    ("readonly", errno.ENOENT): "A path to protect vanished meanwhile.",
    ("sysctl", errno.ENOENT): "The kernel has no such setting, or not in a namespace.",
    ("sysctl", errno.EACCES): "The setting belongs to a namespace that the jail shares "
    "with the host: net.* needs a network of its own.",
    ("sysctl", errno.EPERM): "The setting belongs to a namespace that the jail shares "
    "with the host: net.* needs a network of its own.",
    ("sysctl", errno.EROFS): "/proc/sys is read-only around this program. Start the "
    "outer container with systempaths=unconfined. Price: programs in it see the "
    "kernel's tables in /proc.",
    ("sysctl", errno.EINVAL): "The kernel refused the value.",
    ("identity", errno.EINVAL): "The user or group does not exist in the jail's id "
    "map. With one id only, every program runs as root of the jail; subordinate ids "
    "(/etc/subuid) give more.",
    ("identity", errno.EPERM): "Groups cannot be set in a jail with one id: the kernel "
    "denies setgroups there. Leave groups out, or get subordinate ids.",
    ("identity", errno.EAGAIN): _out_of_processes,
    ("hostname", errno.EPERM): "The name can only be set with a UTS namespace of the "
    "jail's own.",
    ("hostname", errno.EINVAL): "A host name has at most 64 bytes.",
    ("rlimit", errno.EPERM): _rlimit_refused,
    ("rlimit", errno.EINVAL): "The soft limit is above the hard one, or the kernel has "
    "no such limit.",
    ("landlock", errno.ENOSYS): _no_landlock,
    ("landlock", errno.EOPNOTSUPP): _no_landlock,
    ("landlock", errno.EINVAL): "The kernel's Landlock is older than the rules.",
    ("landlock", errno.E2BIG): "More than 16 Landlock rule sets are stacked: jails are "
    "nested too deep.",
    ("landlock", errno.EPERM): "Landlock needs no_new_privileges.",
    ("seccomp", errno.EACCES): "A filter without no_new_privileges needs "
    "CAP_SYS_ADMIN in the jail. Leave no_new_privileges on.",
    ("seccomp", errno.EINVAL): "The kernel refused the filter: it was built without "
    "CONFIG_SECCOMP_FILTER, or lacks an action that the profile uses.",
    ("seccomp", errno.ENOMEM): "All filters of a process together are bounded to 32768 "
    "instructions: too many are stacked around this program.",
    ("chdir", errno.ENOENT): "The working directory does not exist in the jail. Make "
    "it in the image, or give another cwd=.",
    ("chdir", errno.ENOTDIR): "The working directory is a file in the jail.",
    ("chdir", errno.EACCES): "The working directory is closed to this user.",
    ("chdir", errno.ELOOP): _ESCAPES,
    ("chdir", errno.EXDEV): _ESCAPES,
    ("work", errno.EAGAIN): "As much work on layers goes on at once as a keeper can "
    "watch over. Load or pull fewer images side by side.",
    ("work", errno.EMFILE): "The keeper has no descriptor left for it: raise "
    "RLIMIT_NOFILE of this program before its first container.",
    ("work", errno.E2BIG): "An image may have 500 layers on top of each other.",
    ("exec", errno.ENOENT): _not_found,
    ("exec", errno.EACCES): "The file is not executable for this user (chmod +x), a "
    "directory on the way is closed, or its mount is noexec.",
    ("exec", errno.EPERM): "The program was refused by a security module, or by the "
    "jail's filter.",
    ("exec", errno.ENOEXEC): "The file is no program for this machine: another "
    "architecture, or a script without #! in its first line.",
    ("exec", errno.ENOTDIR): "A part of the program's path is a file.",
    ("exec", errno.EISDIR): "The path is a directory.",
    ("exec", errno.ELOOP): "The path has too many links, or #! lines lead in circles.",
    ("exec", errno.E2BIG): "Arguments and environment together exceed a quarter of the "
    "stack limit. Pass the data on stdin or in a file.",
    ("exec", errno.ETXTBSY): "Somebody has the program open for writing.",
    ("exec", errno.ENOMEM): "Memory for the program's image was refused: raise "
    "memory=.",
    ("exec", errno.ELIBBAD): "The dynamic loader is damaged or for another "
    "architecture.",
    ("exec", errno.EINVAL): "The program names more than one loader, or one of an "
    "unknown kind.",
    ("tty", errno.ENOSPC): "No more terminals: kernel.pty.max is reached.",
    ("tty", errno.ENOENT): "The jail has no /dev/pts. Do not mount over /dev.",
    ("tty", errno.EIO): "The terminal was closed meanwhile.",
    ("tty", errno.EPERM): "The terminal is another session's already.",
}

# Causes that are the same at every step.
_ANYWHERE: dict[int, str] = {
    errno.EMFILE: "This program has no descriptor left. Close some, or raise "
    "ulimit -n.",
    errno.ENFILE: "The machine has no descriptor left: fs.file-max is reached.",
    errno.ENOMEM: "The kernel has no memory left for this, or the memory limit of the "
    "jail or of a group around it is too small.",
    errno.ENOSPC: "No space or no inodes are left where the jail is stored.",
    errno.EDQUOT: "The disk quota of this user is used up.",
    errno.EIO: "The disk reported an error: see dmesg.",
    errno.EROFS: "The file system is read-only.",
    errno.ENOSYS: "The kernel is too old for this call, or a seccomp filter around "
    "this program hides it. jailbox.doctor() tells which.",
    errno.ENAMETOOLONG: "A path is longer than 4095 bytes, or a name than 255.",
}


def hint(
    step: str, number: int, facts: HostFacts | None = None, detail: str = ""
) -> str | None:
    """
    Advise on a refused step. Pure.

    Args:
        step: One of `STEPS`.

        number: The errno.

        facts: The machine, to tell causes apart; without it, all of them are named.

        detail: What the step worked on: the type of a file system for ``fs``, a path
            for most others, the name of a limit for ``rlimit``.

    Returns:
        A cause and a way out, in sentences; ``None`` if the errno says it all.
    """
    advice = _TABLE.get((step, number))
    if advice is None:
        return _ANYWHERE.get(number)
    return advice if isinstance(advice, str) else advice(facts, detail)
