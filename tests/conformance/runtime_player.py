"""
Plays a runtime case on the public face of jailbox.

A step of the case becomes calls that a user would write; what they return or raise
becomes a `Shown`. Nothing is made to pass here: what the face has not got raises
`NotOffered`, and notation (``C /etc`` for a directory with a change in it) is all that
is translated.
"""

import contextlib
import os
import re
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

import jailbox as jb
from jailbox import Container, Image, Store
from jailbox.errors import (
    HostError,
    ImageNotFound,
    InvalidReference,
    LaunchError,
    NotFound,
    SpecError,
    StateError,
)
from tests.conformance.runtime_expect import Json, Shown, mismatches
from tests.conformance.runtime_images import lay, make_image
from tests.conformance.runtime_options import NotOffered, arguments

__all__ = ["Player"]

_PATIENCE = 60.0
_HESITATION = 0.5

_LATER = {
    "commit": "a container cannot become an image yet",
    "export": "a file system is not exported as one archive yet",
    "rename": "a container keeps its name",
    "update": "limits of a running container cannot be changed yet",
    "image_inspect": "images have no store yet",
    "image_rm": "images have no store yet",
    "network_create": "networks between containers are not there yet",
    "network_rm": "networks between containers are not there yet",
    "network_connect": "networks between containers are not there yet",
    "network_disconnect": "networks between containers are not there yet",
    "network_inspect": "networks between containers are not there yet",
    "volume_create": "named volumes are not there yet",
    "volume_rm": "named volumes are not there yet",
    "volume_inspect": "named volumes are not there yet",
    "connect": "ports are not published yet",
    "host_listen": "ports are not published yet",
    "top": "processes of a container are not listed from outside",
}


@attrs.define
class Player:
    """
    One case.

    Attributes:
        case: The case.

        base: The directory of the image ``busybox``.

        place: A directory for what this case needs.

        prefix: What the names of its containers begin with.
    """

    case: dict[str, Any]
    base: Path
    place: Path
    prefix: str
    boxes: dict[str, Container] = attrs.field(factory=dict)
    images: dict[str, Image] = attrs.field(factory=dict)
    held: list[Any] = attrs.field(factory=list)
    mounted: list[Path] = attrs.field(factory=list)

    @property
    def host(self) -> Path:
        """The fixture folder."""
        return self.place / "host"

    def play(self) -> tuple[str, ...]:
        """
        Play all steps; what is not as expected, step by step.

        Raises:
            NotOffered: If a step or an option of it has nothing to stand for it.
        """
        case = self.case
        self.host.mkdir(parents=True)
        lay(self.host, case.get("host") or {})
        made = case.get("images") or {}
        for name in {"busybox", case.get("image", "busybox"), *made}:
            root = self.place / "images" / name
            root.parent.mkdir(exist_ok=True)
            self.images[name] = make_image(self.base, root, made.get(name))
        try:
            return tuple(self._steps())
        finally:
            self._clear()

    def _steps(self) -> Iterator[str]:
        steps = self.case["steps"]
        for number, given in enumerate(steps):
            step = self._real(given)
            last = number == len(steps) - 1
            expected = step.get("expect", {})
            if last and self.case.get("expect") is not None:
                expected = expected | self._real(self.case["expect"])
            until = time.monotonic() + step.get("until", 0)
            while True:
                shown = self._step(step)
                found = mismatches(expected, shown)
                if not found or time.monotonic() >= until:
                    break
                time.sleep(0.05)
            if found:
                yield from (f"step {number} {step['op']}: {each}" for each in found)
                return

    def _real(self, value: Json) -> Json:
        """Put real names and places where the case has marks."""
        if isinstance(value, dict):
            return {self._real(k): self._real(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._real(item) for item in value]
        if not isinstance(value, str) or "@" not in value:
            return value
        value = value.replace("@HOST@", str(self.host))
        value = value.replace("@HOSTNAME@", socket.gethostname())
        value = re.sub(r"@NAME\((\w+)\)@", lambda m: self._name(m[1]), value)
        value = re.sub(
            r"@HOSTNS\((\w+)\)@",
            lambda m: os.readlink(f"/proc/self/ns/{m[1]}"),
            value,
        )
        if "@HOSTCAPS@" in value:
            status = Path("/proc/self/status").read_text()
            bounding = re.search(r"CapBnd:\s*(\w+)", status)
            value = value.replace("@HOSTCAPS@", bounding[1] if bounding else "")
        return value

    def _name(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def _clear(self) -> None:
        for process in self.held:
            process.close()
        for box in self.boxes.values():
            box.remove()
        for place in reversed(self.mounted):
            subprocess.run(["umount", "-l", place], check=False)

    # --- steps -------------------------------------------------------------------

    def _step(self, step: dict[str, Any]) -> Shown:
        op = step["op"]
        if op in _LATER:
            raise NotOffered(_LATER[op])
        play: Callable[[dict[str, Any]], Shown] | None = getattr(self, f"_{op}", None)
        if play is None:
            raise NotOffered(f"unknown to this runner: {op}")
        began = time.monotonic()
        try:
            shown = play(step)
        except NotOffered:
            raise
        except (jb.JailboxError, OSError, ValueError, TypeError) as error:
            shown = Shown(
                error=_category(error), why=f"{type(error).__name__}: {error}"
            )
        shown.seconds = time.monotonic() - began
        return shown

    def _box(self, step: dict[str, Any]) -> Container:
        return Container.get(self._name(step.get("name", "c")))

    def _options(self, step: dict[str, Any]) -> dict[str, Any]:
        return (self.case.get("options") or {}) | (step.get("options") or {})

    def _image(self, options: dict[str, Any]) -> Json:
        name = options.get("image", self.case.get("image", "busybox"))
        if name in self.images:
            return self.images[name]
        # Cases bring their images along; no registry is asked for others.
        with Store(self.place / "store") as store:
            return Image.get(name, pull="never", store=store)

    def _create(self, step: dict[str, Any]) -> Shown:
        options = self._options(step)
        wanted = arguments(options)
        command = step.get("argv", wanted.pop("argv", None))
        wanted.pop("argv", None)
        name = step.get("name", "c")
        if step.get("tty_size") and wanted.get("tty"):
            rows, columns = step["tty_size"]
            wanted["tty"] = (columns, rows)
        # A caller drops nothing that has failed: it keeps its name until removed.
        self.boxes[name] = Container(
            self._image(options), command, name=self._name(name), **wanted
        )
        return Shown()

    def _run(self, step: dict[str, Any]) -> Shown:
        if not step.get("detach") and not self._used_later(step):
            return self._run_once(step)
        if step.get("stdin") is not None:
            raise NotOffered("a container that is kept has no input of the caller's")
        self._create(step)
        shown = self._start({**step, "attach": not step.get("detach")})
        if self._options(step).get("auto_remove"):
            self._forget(step)
        return shown

    def _used_later(self, step: dict[str, Any]) -> bool:
        """Whether any other step is about the container of this one."""
        name = step.get("name", "c")
        users = [s for s in self.case["steps"] if s.get("name", "c") == name]
        return len([s for s in users if s["op"] not in _WITHOUT_CONTAINER]) > 1

    def _run_once(self, step: dict[str, Any]) -> Shown:
        options = self._options(step)
        wanted = arguments(options)
        for name in ("stop_signal", "stop_timeout", "labels"):
            wanted.pop(name, None)
        command = step.get("argv", wanted.pop("argv", None))
        wanted.pop("argv", None)
        if wanted.get("tty") and step.get("tty_size"):
            rows, columns = step["tty_size"]
            wanted["tty"] = (columns, rows)
        result = jb.run(
            self._image(options),
            command,
            input=_typed(step) if wanted.get("tty") else _input(step),
            timeout=step.get("timeout", _PATIENCE),
            **wanted,
        )
        return Shown(_code(result), result.stdout, result.stderr)

    def _start(self, step: dict[str, Any]) -> Shown:
        box = self._box(step)
        box.start()
        if not step.get("attach"):
            return Shown()
        result = box.wait(step.get("timeout", _PATIENCE))
        return Shown(_code(result), *_texts(box))

    def _exec(self, step: dict[str, Any]) -> Shown:
        if step.get("privileged"):
            raise NotOffered("nothing gives a program all rights on the host")
        box = self._box(step)
        more: dict[str, Any] = {
            "env": _variables(step.get("environment")),
            "cwd": step.get("working_dir"),
            "user": step.get("user"),
        }
        argv = step["argv"]
        if step.get("detach"):
            self.held.append(box.popen(argv, **more))
            return Shown()
        if step.get("tty"):
            rows, columns = step.get("tty_size") or (24, 80)
            with box.popen(argv, tty=(columns, rows), **more) as process:
                if step.get("stdin"):
                    process.write(step["stdin"])
                process.wait(step.get("timeout", _PATIENCE))
                result = process.result()
        else:
            result = box.exec(
                argv,
                input=_input(step),
                timeout=step.get("timeout", _PATIENCE),
                **more,
            )
        return Shown(_code(result), result.stdout, result.stderr)

    def _stop(self, step: dict[str, Any]) -> Shown:
        self._box(step).stop(step.get("timeout"))
        return Shown()

    def _restart(self, step: dict[str, Any]) -> Shown:
        self._box(step).restart(step.get("timeout"))
        return Shown()

    def _kill(self, step: dict[str, Any]) -> Shown:
        self._box(step).kill(step.get("signal", "SIGKILL"))
        return Shown()

    def _pause(self, step: dict[str, Any]) -> Shown:
        self._box(step).pause()
        return Shown()

    def _unpause(self, step: dict[str, Any]) -> Shown:
        self._box(step).resume()
        return Shown()

    def _rm(self, step: dict[str, Any]) -> Shown:
        box = self._box(step)
        try:
            box.remove(force=step.get("force", False))
        except StateError as error:
            return Shown(error="in_use", why=str(error))
        self.boxes.pop(step.get("name", "c"), None)
        return Shown()

    def _forget(self, step: dict[str, Any]) -> None:
        box = self.boxes.pop(step.get("name", "c"))
        if step.get("detach"):
            raise NotOffered("a container in the background is removed by its caller")
        box.remove()

    def _wait(self, step: dict[str, Any]) -> Shown:
        return Shown(_code(self._box(step).wait(step.get("timeout", _PATIENCE))))

    def _logs(self, step: dict[str, Any]) -> Shown:
        more: dict[str, Any] = {}
        if step.get("tail") not in (None, "all"):
            more["tail"] = int(step["tail"])
        if "since" in step:
            more["since"] = float(step["since"].removesuffix("s"))
        box = self._box(step)
        if step.get("follow") and box.state == "running":
            box.wait(step.get("timeout", _PATIENCE))
        if step.get("timestamps"):
            raise NotOffered("times are attributes of an entry, not text")
        return Shown(0, *_texts(box, **more))

    def _inspect(self, step: dict[str, Any]) -> Shown:
        box = self._box(step)
        spec, result, state = box.spec, box.result, str(box.state)
        started = result is not None or state in ("running", "paused")
        config = box.spec.image.config  # type: ignore[attr-defined]
        found: dict[str, Any] = {
            "status": {"stopped": "exited"}.get(state, state),
            "running": state in ("running", "paused"),
            "paused": state == "paused",
            "exit_code": 0 if result is None else _code(result),
            "oom_killed": result is not None and result.verdict == "memory",
            "name": box.name.removeprefix(f"{self.prefix}-"),
            "labels": {**config.labels, **spec.labels},
            "env": [f"{k}={v}" for k, v in {**config.env, **spec.env}.items()],
            "user": "" if spec.user is None else str(spec.user),
            "working_dir": spec.cwd or "",
            "hostname": spec.hostname,
            "exposed": sorted(config.exposed_ports),
            "pid": box.pid or 0,
            "mem_limit": spec.limits.memory or 0,
            "started": started,
            "error_text": "",
            "health": "none",
            "restart_count": 0,
        }
        asked = set(step.get("expect", {}).get("attrs", {}))
        asked |= set((self.case.get("expect") or {}).get("attrs", {}))
        if not asked <= set(found) and asked & {
            *("ports", "networks", "ips", "failing_streak", "health_log"),
            *("restart_policy", "mounts", "path", "args", "command", "entrypoint"),
            "stop_signal",
        }:
            missing = ", ".join(sorted(asked - set(found)))
            raise NotOffered(f"nothing says {missing} of a container")
        return Shown(attrs=found)

    def _ps(self, step: dict[str, Any]) -> Shown:
        filters = step.get("filters") or {}
        labels = filters.get("label", [])
        labels = [labels] if isinstance(labels, str) else labels
        wanted = dict(each.partition("=")[::2] for each in labels)
        names = []
        for box in Container.list(labels=wanted or None):
            if not box.name.startswith(f"{self.prefix}-"):
                continue
            if set(filters) - {"label", "name", "status"}:
                raise NotOffered("containers are found by name and labels")
            if not step.get("all") and str(box.state) not in ("running", "paused"):
                continue
            names.append(box.name.removeprefix(f"{self.prefix}-"))
        return Shown(attrs={"names": sorted(names)})

    def _stats(self, step: dict[str, Any]) -> Shown:
        stats = self._box(step).stats()
        return Shown(stdout=str(stats), attrs={"pids": stats.processes})

    def _diff(self, step: dict[str, Any]) -> Shown:
        changes = self._box(step).changes()
        letters = {"added": "A", "modified": "C", "removed": "D"}
        found = {change.path: letters[change.kind] for change in changes}
        for path in list(found):
            # Docker says of a directory too that something in it has changed.
            parent = os.path.dirname(path)
            while parent != "/":
                found.setdefault(parent, "C")
                parent = os.path.dirname(parent)
        return Shown(
            changes=frozenset(f"{kind} {path}" for path, kind in found.items())
        )

    # --- files -------------------------------------------------------------------

    def _cp_out(self, step: dict[str, Any]) -> Shown:
        source = step["src"]
        target = f"{self.host}/{step['dest']}"
        follow = bool(step.get("follow"))
        self._box(step).files.get(source, target, follow_symlinks=follow)
        return Shown()

    def _cp_in(self, step: dict[str, Any]) -> Shown:
        if step.get("archive"):
            raise NotOffered("owners of the host mean nothing inside")
        source = f"{self.host}/{step['src']}"
        follow = bool(step.get("follow"))
        self._box(step).files.put(source, step["dest"], follow_symlinks=follow)
        return Shown()

    def _get_archive(self, step: dict[str, Any]) -> Shown:
        files = self._box(step).files
        path = step["path"].rstrip("/") or "/"
        top = os.path.basename(path) or "."
        entries: dict[str, Any] = {}

        def look(at: str, name: str) -> None:
            found = files.stat(at, follow_symlinks=False)
            entries[name] = _entry(files, at, found)
            if found.type == "directory":
                for base, _ in files.list(at):
                    look(f"{at}/{base}", f"{name}/{base}")

        look(path, top)
        return Shown(attrs={"entries": entries})

    def _put_archive(self, step: dict[str, Any]) -> Shown:
        entries = step["entries"]
        if any(set(entry) - {"content"} for entry in entries.values()):
            raise NotOffered("what is put as bytes has no mode and owner of its own")
        content = {name: entry["content"] for name, entry in entries.items()}
        self._box(step).put(content, step["path"])
        return Shown()

    # --- the host ----------------------------------------------------------------

    def _sleep(self, step: dict[str, Any]) -> Shown:
        time.sleep(step["time"])
        return Shown()

    def _host_write(self, step: dict[str, Any]) -> Shown:
        lay(self.host, {step["path"]: step})
        return Shown()

    def _host_stat(self, step: dict[str, Any]) -> Shown:
        place = self.host / step["path"]
        if not os.path.lexists(place):
            return Shown(attrs={"type": "absent"})
        found = place.lstat()
        seen: dict[str, Any] = {
            "type": _TYPES.get(stat.S_IFMT(found.st_mode), "other"),
            "mode": f"{stat.S_IMODE(found.st_mode):04o}",
            "uid": found.st_uid,
            "gid": found.st_gid,
            "size": found.st_size,
        }
        if seen["type"] == "symlink":
            seen["target"] = os.readlink(place)
        elif seen["type"] == "file":
            seen["content"] = place.read_text(errors="replace")
        elif seen["type"] == "dir":
            seen["names"] = sorted(os.listdir(place))
        return Shown(attrs=seen)

    def _host_mount(self, step: dict[str, Any]) -> Shown:
        place = self.host / step["path"]
        subprocess.run(["mount", "-t", "tmpfs", "jailbox-test", place], check=True)
        self.mounted.append(place)
        if step.get("shared"):
            subprocess.run(["mount", "--make-shared", place], check=True)
        return Shown()

    def _host_umount(self, step: dict[str, Any]) -> Shown:
        place = self.host / step["path"]
        subprocess.run(["umount", place], check=True)
        self.mounted.remove(place)
        return Shown()

    def _host_mounts(self, step: dict[str, Any]) -> Shown:
        lines = Path("/proc/self/mounts").read_text().splitlines()
        count = sum(bool(re.search(step["pattern"], line)) for line in lines)
        return Shown(attrs={"count": count})

    def _host_processes(self, step: dict[str, Any]) -> Shown:
        count = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    text = line.decode(errors="replace").strip()
                    count += bool(re.fullmatch(step["pattern"], text))
        return Shown(attrs={"count": count})

    def _host_same(self, step: dict[str, Any]) -> Shown:
        place = self.host / step["path"]
        before = place.read_bytes()
        time.sleep(step["time"])
        return Shown(attrs={"same": before == place.read_bytes()})


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
}


def _entry(files: Json, path: str, found: Json) -> dict[str, Any]:
    seen: dict[str, Any] = {
        "type": {"directory": "dir"}.get(str(found.type), str(found.type)),
        "mode": f"{found.mode:04o}",
        "uid": found.uid,
        "gid": found.gid,
    }
    if seen["type"] == "file":
        seen["content"] = files.read(path).decode(errors="replace")
        seen["size"] = found.size
    elif seen["type"] == "symlink":
        seen["target"] = found.target
    return seen


def _input(step: dict[str, Any]) -> str | None:
    text = step.get("stdin")
    return None if text is None else text * step.get("stdin_times", 1)


def _typed(step: dict[str, Any]) -> Iterator[str] | None:
    """Nobody types before there is something to type at."""
    text = _input(step)
    if text is None:
        return None

    def typed() -> Iterator[str]:
        time.sleep(_HESITATION)
        yield text

    return typed()


def _variables(given: Json) -> dict[str, str] | None:
    if isinstance(given, list):
        return dict(item.partition("=")[::2] for item in given)
    return dict(given) if given else None


def _code(result: Json) -> int:
    """The code as a shell counts: a signal is 128 and its number."""
    code: int = result.returncode
    return code if code >= 0 else 128 - code


def _texts(box: Container, **more: Json) -> tuple[str, str]:
    out, err = (
        b"".join(entry.data for entry in box.logs(stream=name, **more)).decode(
            errors="replace"
        )
        for name in ("stdout", "stderr")
    )
    return out, err


_WITHOUT_CONTAINER = {
    *("sleep", "host_write", "host_stat", "host_mount", "host_umount", "host_mounts"),
    *("host_processes", "host_same", "host_listen", "ps", "connect"),
}

_ERRNOS = {2: "command_not_found", 8: "command_not_executable"}


def _category(error: Exception) -> str:  # a table with an order
    """Say in the words of the cases what was refused."""
    match error:
        case ImageNotFound() | InvalidReference():
            return "image_not_found"
        case NotFound():
            return "not_found"
        case StateError():
            return "paused" if error.state == "paused" else "not_running"
        case LaunchError(step="exec"):
            return _ERRNOS.get(error.errno or 0, "command_not_executable")
        case LaunchError(step="chdir"):
            return "not_a_directory" if error.errno == 20 else "path_not_found"
        case LaunchError():
            return "other"
        case SpecError():
            return _of_argument(error)
        case FileNotFoundError():
            return "path_not_found"
        case NotADirectoryError():
            return "not_a_directory"
        case FileExistsError() | IsADirectoryError():
            return "invalid_argument"
        case OSError(errno=30):
            return "read_only"
        case PermissionError():
            return "permission"
        case HostError():
            return "other"
        case ValueError() | TypeError():
            return "invalid_argument"
    return "other"


def _of_argument(error: SpecError) -> str:
    argument = error.argument
    if argument in ("user", "group", "groups"):
        return "bad_user"
    if argument == "source":
        return "mount_source_missing"
    if argument == "name" and "taken" in str(error):
        return "name_conflict"
    if argument == "image":
        return "image_not_found"
    return "invalid_argument"
