"""
Which system calls a jail may make: profiles, and their programs.

A `Profile` is a value: what happens to each call, as anybody would say it. `program`
turns it into the bytes that the kernel runs. Both are pure; installing the bytes is
the stager's work, and which profile a container gets is `jailbox.run.confinement`'s.

What the default profile is made of, and why:

- It is an allowlist. A call that nobody decided about gets ENOSYS, the answer of a
  kernel that does not have it, so that programs fall back. What a program should not
  try to get around by falling back (mounts, namespaces, modules, keys) gets EPERM.
- One ABI. The numbers of another one mean other calls. x32 numbers get ENOSYS. A call
  by the 32-bit entry of the machine ends the process with SIGSYS: programs for that
  ABI cannot run at all, and with ENOSYS they would not stop at their first call but
  stumble on to some random crash that nobody could explain.
- Arguments are compared as far as the kernel reads them (`tables.WIDTHS`), in every
  profile. A comparison of 64 bits where the kernel takes 32 is a hole: CVE-2019-7303.

Source: *seccomp(2)*; OCI runtime-spec, *config-linux.md*, "Seccomp".
"""

from jailbox.linux.seccomp.compile import describe_program, program
from jailbox.linux.seccomp.default import default_profile
from jailbox.linux.seccomp.profile import (
    ALLOW,
    Action,
    Compare,
    Kind,
    Op,
    Profile,
    Rule,
    deny,
)

__all__ = [
    "ALLOW",
    "Action",
    "Compare",
    "Kind",
    "Op",
    "Profile",
    "Rule",
    "default_profile",
    "deny",
    "describe_program",
    "program",
]
