"""
The files of a container, running or not: read, write, copy in and out, compare.

The copying itself is `jailbox.linux.tree`; the rights behind it are those of an agent
inside of the container, so no path of a container is ever looked up on the host.

`jailbox.run.fileflows` has every operation once, as a flow; `Files` is the blocking
face, and `jailbox.run.paths.ContainerPath` the one that looks like `pathlib`. What a
call means is decided in `jailbox.run.landing`.
"""

from collections.abc import Iterable
from typing import overload

from jailbox.flow import drive
from jailbox.linux.tree import Bounds, Copied, Stat
from jailbox.run.fileflows import READ_MAX, Agents, FileFlows, Owner, Source, Timeout
from jailbox.run.landing import DIRECTORY_MODE, Content, items_of, jail_path
from jailbox.run.paths import ContainerPath
from jailbox.spec.change import Change
from jailbox.spec.texts import AnyPath

__all__ = [
    "Agents",
    "Bounds",
    "ContainerPath",
    "Content",
    "Copied",
    "FileFlows",
    "Files",
    "Owner",
    "Source",
    "Stat",
    "items_of",
]


class Files:
    """
    The files of one container.

    Paths are absolute, and resolved inside: neither a link nor ``..`` leaves the
    container. What the kernel refuses is the `OSError` that the same call on the host
    would raise, with a note that says what was tried and on which side.

    ``timeout`` bounds a call, in seconds or as a timedelta. ``bounds`` says how much
    it may move.
    """

    def __init__(self, agents: Agents) -> None:
        self.flows = FileFlows(agents)

    def path(self, path: AnyPath = "/") -> ContainerPath:
        """A path that can be used like a `pathlib.Path`. Touches nothing."""
        return ContainerPath(self, jail_path(path))

    def stat(
        self, path: AnyPath, *, follow_symlinks: bool = True, timeout: Timeout = None
    ) -> Stat:
        """Look at *path*."""
        return drive(
            self.flows.stat(path, follow_symlinks=follow_symlinks, timeout=timeout)
        )

    def list(
        self,
        path: AnyPath,
        *,
        depth: int | None = 1,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> tuple[tuple[str, Stat], ...]:
        """
        List a directory: paths below it, and what they are, in no order.

        Args:
            path: The directory.

            depth: How far down; ``None`` to the end.
        """
        return drive(self.flows.list(path, depth=depth, timeout=timeout, bounds=bounds))

    def read(
        self, path: AnyPath, *, max_bytes: int = READ_MAX, timeout: Timeout = None
    ) -> bytes:
        """
        Read a file.

        A file that is being written to is read up to the size it had at first.

        Args:
            path: The file; a link is followed.

            max_bytes: How large it may be.

        Raises:
            ContentError: If the file is larger.

            OSError: If it is no file; a pipe or a device is never waited for.
        """
        return drive(self.flows.read(path, max_bytes=max_bytes, timeout=timeout))

    def write(
        self,
        path: AnyPath,
        data: Content,
        *,
        mode: int | None = None,
        owner: Owner = None,
        new: bool = False,
        parents: bool = False,
        timeout: Timeout = None,
    ) -> int:
        """
        Write a file, whole or not at all: nobody sees half of it.

        A file that is there leaves its mode and owner to the new one, unless one of
        them is given. A link is followed.

        Args:
            path: The file.

            data: Bytes, or text, which is written in UTF-8.

            mode: Permission bits; 0o644 for a new file.

            owner: Whose it is; root's of the container for a new file.

            new: Nothing may be there.

            parents: Make missing directories.

        Returns:
            How many bytes were written.
        """
        return drive(
            self.flows.write(
                path,
                data,
                mode=mode,
                owner=owner,
                new=new,
                parents=parents,
                timeout=timeout,
            )
        )

    def mkdir(
        self,
        path: AnyPath,
        *,
        mode: int = DIRECTORY_MODE,
        parents: bool = False,
        exist_ok: bool = False,
        timeout: Timeout = None,
    ) -> None:
        """
        Make a directory, which belongs to root of the container.

        Args:
            path: The directory.

            mode: Permission bits, whatever the umask.

            parents: Make missing directories before it.

            exist_ok: A directory may be there.
        """
        drive(
            self.flows.mkdir(
                path, mode=mode, parents=parents, exist_ok=exist_ok, timeout=timeout
            )
        )

    def remove(
        self,
        path: AnyPath,
        *,
        recursive: bool = False,
        directory: bool = False,
        missing_ok: bool = False,
        timeout: Timeout = None,
    ) -> None:
        """
        Remove a file or a link.

        Args:
            path: What to remove; a link itself.

            recursive: A directory too, with everything below.

            directory: An empty directory, and nothing else.

            missing_ok: There may be nothing.
        """
        drive(
            self.flows.remove(
                path,
                recursive=recursive,
                directory=directory,
                missing_ok=missing_ok,
                timeout=timeout,
            )
        )

    def rename(
        self,
        path: AnyPath,
        target: AnyPath,
        *,
        replace: bool = True,
        timeout: Timeout = None,
    ) -> None:
        """
        Rename, atomically.

        Args:
            path: What to rename; a link itself.

            target: Its new path.

            replace: Whether something may be there that is lost.

        Raises:
            OSError: EXDEV between two mounts, and for a directory that the image
                brought along; copy it then.
        """
        drive(self.flows.rename(path, target, replace=replace, timeout=timeout))

    def symlink(
        self, path: AnyPath, target: AnyPath, *, timeout: Timeout = None
    ) -> None:
        """Make a symbolic link at *path* that says *target*, whatever that is."""
        drive(self.flows.symlink(path, target, timeout=timeout))

    def change(
        self,
        path: AnyPath,
        *,
        mode: int | None = None,
        owner: Owner = None,
        mtime_ns: int | None = None,
        now: bool = False,
        follow_symlinks: bool = True,
        timeout: Timeout = None,
    ) -> None:
        """
        Change what is given of mode, owner and time.

        Args:
            path: What to change.

            mode: Permission bits.

            owner: Whose it shall be.

            mtime_ns: The time of its last change, in nanoseconds since 1970.

            now: That time is now.

            follow_symlinks: Whether a link stands for what it points to.
        """
        drive(
            self.flows.change(
                path,
                mode=mode,
                owner=owner,
                mtime_ns=mtime_ns,
                now=now,
                follow_symlinks=follow_symlinks,
                timeout=timeout,
            )
        )

    def put(
        self,
        source: Source,
        target: AnyPath,
        *,
        excludes: Iterable[str] = (),
        owner: Owner = None,
        parents: bool = False,
        follow_symlinks: bool = False,
        xattrs: bool = False,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Copied:
        """
        Copy into the container.

        Where it lands, as with ``docker cp``:

        ==================  =======================  ============================
        *target* is         a directory is put       a file is put
        ==================  =======================  ============================
        a directory         inside it, by its name   inside it, by its name
        a file              NotADirectoryError       in place of the file
        missing             there                    there
        missing, with a /   there                    NotADirectoryError
        ==================  =======================  ============================

        A *source* that ends with ``/.``, and a mapping, is a directory whose *content*
        goes into *target*; bytes become the file *target* itself. A link at the end of
        *target* is followed, inside the container.

        In an existing directory, files and links are replaced, directories are merged
        and keep mode, owner and time; a directory never replaces something else, nor
        something else a directory. A file appears whole, and a directory that is new
        with everything in it, or not at all.

        Modes, times and symbolic links are kept, hard links become files of their own.
        Devices, pipes and sockets are skipped, and named in the result.

        Args:
            source: A path of the host; bytes; or a mapping of relative paths to bytes
                or text.

            target: A path in the container.

            excludes: Patterns of what stays out, as in
                ``["*.pyc", ".git", "docs/**/*.tmp"]``: without a slash they are
                compared with every name, else with the path below the source.

            owner: Whose it shall be; root's of the container unless said.

            parents: Make missing directories that lead to *target*.

            follow_symlinks: If *source* itself is a link, copy what it points to.

            xattrs: Copy attributes ``user.*`` too.

        Raises:
            ContentError: If a bound is reached. Nothing is left half done.
        """
        return drive(
            self.flows.put(
                source,
                target,
                excludes=excludes,
                owner=owner,
                parents=parents,
                follow_symlinks=follow_symlinks,
                xattrs=xattrs,
                timeout=timeout,
                bounds=bounds,
            )
        )

    @overload
    def get(
        self,
        path: AnyPath,
        target: None = None,
        *,
        max_bytes: int = READ_MAX,
        timeout: Timeout = None,
    ) -> bytes: ...

    @overload
    def get(
        self,
        path: AnyPath,
        target: AnyPath,
        *,
        replace: bool = True,
        follow_symlinks: bool = False,
        keep_setid: bool = False,
        xattrs: bool = False,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Copied: ...

    def get(
        self,
        path: AnyPath,
        target: AnyPath | None = None,
        *,
        replace: bool = True,
        follow_symlinks: bool = False,
        keep_setid: bool = False,
        xattrs: bool = False,
        max_bytes: int = READ_MAX,
        timeout: Timeout = None,
        bounds: Bounds | None = None,
    ) -> Copied | bytes:
        """
        Copy out of the container: to *target* on the host, or as bytes.

        Where it lands is said by the table at `put`, and ``/.`` means the same. Nothing
        is ever written outside of *target*, whatever the container does meanwhile:
        links are copied, and none is followed. A link at *target* itself is replaced,
        unless the path ends with a slash.

        Everything belongs to the caller. Modes and times are kept, but for set-id and
        sticky bits; devices, pipes and sockets are skipped, and named in the result.

        Args:
            path: A path in the container.

            target: A path of the host, or ``None`` for the content of a file: then
                this is `read`.

            replace: Whether files and links may be replaced.

            follow_symlinks: If *path* itself is a link, copy what it points to.

            keep_setid: Keep set-id and sticky bits; they are the container's word.

            xattrs: Copy attributes ``user.*`` too.

            max_bytes: How large the content may be; only without *target*.

        Raises:
            ContentError: If a bound is reached. Nothing is left half done.
        """
        if target is None:
            return self.read(path, max_bytes=max_bytes, timeout=timeout)
        return drive(
            self.flows.get(
                path,
                target,
                replace=replace,
                follow_symlinks=follow_symlinks,
                keep_setid=keep_setid,
                xattrs=xattrs,
                timeout=timeout,
                bounds=bounds,
            )
        )

    def changes(
        self, *, timeout: Timeout = None, bounds: Bounds | None = None
    ) -> tuple[Change, ...]:
        """
        What differs from the image, by path.

        What was written and written back is no change. A removed directory is one
        change, an added one is a change for everything in it, a renamed one is both.
        What was made only to be mounted on, as ``/proc``, is none.
        """
        return drive(self.flows.changes(timeout=timeout, bounds=bounds))

    def read_old(
        self, path: AnyPath, *, max_bytes: int = READ_MAX, timeout: Timeout = None
    ) -> bytes:
        """Read a file as the image has it; a link is not followed."""
        return drive(self.flows.read_old(path, max_bytes=max_bytes, timeout=timeout))
