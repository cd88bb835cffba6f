"""
Judge submissions that nobody has read: the job that jailbox is for.

Seven programs, as people hand them in, against one task: read numbers, print their
sum. One is right, the others are wrong, slow, greedy, broken, or hostile. Each runs in
a jail of its own on the machine's own Python, and for each we learn what came of it.
"""

from jailbox import Container, Image, Limits, Security, run

TASK = "3 4 5"
ANSWER = "12"

SUBMISSIONS = {
    "right": "print(sum(map(int, input().split())))",
    "wrong": "print(11)",
    "slow": "while True: pass",
    "greedy": "x = bytearray(1 << 30)",
    "talkative": "while True: print('spam' * 1000)",
    "fork bomb": "import os\nwhile True: os.fork()",
    "thief": "print(open('/etc/shadow').read())",
}

LIMITS = Limits(memory="64M", cpu_time=1, wall=5, processes=8, output="64K")

# Where control groups are not ours to use, bounds may hold for each process alone; said
# out loud, because without this line such a machine would refuse.
SECURITY = Security().degrading("cgroup")


def judge(source: str) -> str:
    """Run one submission, and say what came of it."""
    result = run(
        Image.host(),
        ["python3", "-I", "-c", source],
        input=TASK,
        limits=LIMITS,
        security=SECURITY,
    )
    if not result.ok:
        return str(result.verdict)
    return "accepted" if result.stdout.strip() == ANSWER else "wrong answer"


for name, source in SUBMISSIONS.items():
    print(f"{name:10} {judge(source)}")

# A place of its own that lasts longer than one program: files in, work, files out.
with Container(Image.host(), security=SECURITY) as box:
    box.put({"main.c": b'#include <stdio.h>\nint main(void){puts("built");}\n'}, "/w")
    box.exec(["sh", "-c", "cp main.c copy.c"], cwd="/w", check=True)
    print("changed   ", " ".join(change.path for change in box.changes()))
