"""
Numbers behind the names of users and groups, as the image has them.

Pure: works on the text of ``/etc/passwd`` and ``/etc/group``, which somebody else has
read from the image with bounds. A user that consists of digits is a number, whatever
names the image has (`jailbox.spec.command`).
"""

from collections.abc import Iterable, Iterator

import attrs

from jailbox.errors import SpecError
from jailbox.spec.command import ID_MAX, User

__all__ = ["Identity", "identify"]


@attrs.frozen
class Identity:
    """
    As whom a program runs.

    Attributes:
        uid: User id in the jail.

        gid: Group id in the jail.

        groups: Supplementary groups, sorted; the primary one is among them.

        home: Home directory.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@attrs.frozen
class _Entry:
    name: str
    uid: int
    gid: int
    home: str


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 10:  # noqa: PLR2004
        return None
    number = int(text)
    return number if number <= ID_MAX else None


def _users(passwd: str) -> Iterator[_Entry]:
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) < 6:  # noqa: PLR2004  # passwd(5) has seven
            continue
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            yield _Entry(fields[0], uid, gid, fields[5])


def _groups(group: str) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    for line in group.splitlines():
        fields = line.split(":")
        if len(fields) < 4:  # noqa: PLR2004  # group(5) has four
            continue
        gid = _number(fields[2])
        if gid is not None:
            yield fields[0], gid, tuple(fields[3].split(","))


def _gid(wanted: int | str, group: str) -> int:
    if isinstance(wanted, int):
        return wanted
    for name, gid, _ in _groups(group):
        if name == wanted:
            return gid
    raise SpecError(
        "group",
        "is not in the image's /etc/group",
        value=wanted,
        accepted="its number, or a name that the image has",
    )


def identify(
    user: User | None, groups: Iterable[int | str], passwd: str, group: str
) -> Identity:
    """
    Find the numbers of *user*.

    A number that the image does not know is taken as it is, with group 0 and home
    ``/``, as Docker does. Supplementary groups are those of the image for that user
    and *groups*; never the host's.

    Raises:
        SpecError: If the image has no user or group of that name.
    """
    wanted = User(0) if user is None else user
    entry = None
    for candidate in _users(passwd):
        by = candidate.uid if isinstance(wanted.user, int) else candidate.name
        if by == wanted.user:
            entry = candidate
            break
    if entry is None:
        if isinstance(wanted.user, str):
            raise SpecError(
                "user",
                "is not in the image's /etc/passwd",
                value=wanted.user,
                accepted="its number, or a name that the image has",
            )
        home = "/root" if wanted.user == 0 else "/"
        entry = _Entry("", wanted.user, 0, home)
    gid = entry.gid if wanted.group is None else _gid(wanted.group, group)
    extra = {_gid(item, group) for item in groups}
    if entry.name and wanted.group is None:
        extra |= {g for _, g, members in _groups(group) if entry.name in members}
    return Identity(entry.uid, gid, tuple(sorted(extra | {gid})), entry.home or "/")
