"""
Which machine, in which mood: what has to stand beside every number.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys

__all__ = ["facts"]


def _first_line(command: list[str]) -> str:
    path = shutil.which(command[0])
    if path is None:
        return "absent"
    done = subprocess.run(
        [path, *command[1:]], capture_output=True, text=True, check=False
    )
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    with open("/proc/meminfo", encoding="ascii") as file:
        return f"{int(file.readline().split()[1]) >> 20} GiB"


def _commit() -> str:
    return _first_line(["git", "rev-parse", "--short", "HEAD"])


def facts() -> dict[str, str]:
    """Say what there is."""
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory": _memory(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "processes before": str(sum(name.isdigit() for name in os.listdir("/proc"))),
        "python": sys.version.split()[0],
        "user": "root" if os.geteuid() == 0 else "unprivileged",
        "commit": _commit(),
        "compiler": _first_line(["cc", "--version"]),
        "bwrap": _first_line(["bwrap", "--version"]),
        "crun": _first_line(["crun", "--version"]),
        "runc": _first_line(["runc", "--version"]),
        "docker-py": _docker_py(),
    }


def _docker_py() -> str:
    try:
        return importlib.metadata.version("docker")
    except importlib.metadata.PackageNotFoundError:
        return "absent"
