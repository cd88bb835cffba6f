"""
How long does it take to run one more program in a running container?

`Container.exec` of the no-op against `subprocess.run` of the same program on the host,
and against docker-py's ``exec_run``.

Answer: see ``docs/explanation/speed.md``.
"""

import subprocess

import jailbox as jb
from benchmarks.measure import Bar, Contender, ratio, rounds, timed
from benchmarks.peers import docker_client
from benchmarks.question import Answer, Options
from benchmarks.stage import NOOP, WAIT, Stage

__all__ = ["ask"]


def ask(stage: Stage, options: Options) -> Answer:
    """Race them."""
    facts: dict[str, float | str] = {}
    plain = [str(stage.noop)]
    with jb.Container(jb.Image.from_dir(stage.root)) as container:

        def ours() -> None:
            container.exec(list(NOOP), check=True)

        contenders = [
            Contender("Container.exec", timed(ours, 3)),
            Contender(
                "subprocess.run",
                timed(
                    lambda: subprocess.run(plain, capture_output=True, check=True), 3
                ),
            ),
        ]
        docker = docker_client(stage)
        theirs = None
        if isinstance(docker, str):
            facts["docker-py"] = f"absent: {docker}"
        else:
            theirs = docker.client.containers.run(
                docker.image, list(WAIT), detach=True, network_mode="none"
            )
            running = theirs
            contenders.append(
                Contender("docker-py", timed(lambda: running.exec_run(list(NOOP))))
            )
        try:
            found = rounds(contenders, options.rounds)
        finally:
            if theirs is not None:
                theirs.remove(force=True)
    medians, quarters = ratio(found, "Container.exec", "subprocess.run")
    bars = [
        Bar(
            text="exec against subprocess.run",
            bound=1.3,
            measured=medians,
            lower=quarters,
        )
    ]
    slower = (
        ratio(found, "docker-py", "Container.exec")
        if "docker-py" in found
        else (None, None)
    )
    bars.append(
        Bar(
            text="exec faster than docker-py exec_run",
            bound=40,
            measured=slower[0],
            lower=slower[1],
            at_most=False,
            note=str(facts.get("docker-py", "")),
        )
    )
    return Answer(bars=tuple(bars), samples=found, facts=facts)
