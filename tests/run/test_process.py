"""
A program that runs while one talks to it: streams, input, signals, terminal.
"""

import os
import socket
import time
from pathlib import Path

import pytest

import jailbox as jb

pytestmark = pytest.mark.userns

HOST = jb.Image.host()


class TestStreams:
    def test_lines_come_as_they_are_written(self) -> None:
        """
        Iterating gives each line with its stream, before the program has ended (IO-06).
        """
        script = "echo one; echo two >&2; read x; echo got $x"
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", script], stdin=True)
            seen = []
            for record in process:
                seen.append((record.stream, record.text))
                if len(seen) == 2:
                    assert process.poll() is None
                    process.write("it\n")

            assert sorted(seen[:2]) == [("stderr", "two"), ("stdout", "one")]
            assert seen[2:] == [("stdout", "got it")]
            assert process.returncode == 0

    def test_a_last_line_needs_no_end(self) -> None:
        """
        What stands behind the last line end is a record as well.
        """
        with jb.Container(HOST) as container:
            records = list(container.popen(["printf", r"a\r\nb"]))

        assert [r.data for r in records] == [b"a\r\n", b"b"]
        assert [r.text for r in records] == ["a", "b"]

    def test_chunks_are_the_bytes(self) -> None:
        """
        `chunks` gives the pieces as they come; together they are the output.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", "seq 1 50000"])
            data = b"".join(piece for _, piece in process.chunks())

        assert data == b"".join(b"%d\n" % n for n in range(1, 50001))

    def test_a_pause_loses_nothing(self) -> None:
        """
        Output that comes after a long silence is complete, and so is the exit code.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", "echo a; sleep .4; echo b; exit 6"])
            lines = [record.text for record in process]

            assert lines == ["a", "b"]
            assert process.wait() == 6

    def test_result_has_the_whole_output(self) -> None:
        """
        After iterating, the result still has everything.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", "echo a; echo b >&2"])
            for _ in process:
                pass
            result = process.result()

        assert (result.stdout, result.stderr, result.exit_code) == ("a\n", "b\n", 0)

    def test_result_is_not_there_before_the_end(self) -> None:
        """
        Asking for the result of a program that runs is an error.
        """
        with jb.Container(HOST) as container:  # noqa: SIM117
            with container.popen(["sleep", "9"]) as process:
                with pytest.raises(jb.SpecError, match="wait"):
                    process.result()


class TestInput:
    def test_a_dialog(self) -> None:
        """
        One can write, read the answer, write again, and end the input.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["cat"], stdin=True)
            pieces = process.chunks()
            process.write("first")
            first = next(pieces)
            process.write(b"second")
            second = next(pieces)
            process.close_stdin()

            assert (first, second) == (("stdout", b"first"), ("stdout", b"second"))
            assert process.wait(5) == 0

    def test_writing_much_does_not_block_on_output(self) -> None:
        """
        Four megabytes written to `cat` before anybody reads do not block.
        """
        data = os.urandom(4 << 20)
        with jb.Container(HOST) as container:
            process = container.popen(["cat"], stdin=True, text=False)
            process.write(data)
            result = process.communicate(timeout=10)

        assert result.stdout == data

    def test_writing_to_the_dead_is_a_broken_pipe(self) -> None:
        """
        Writing to a program that has ended is BrokenPipeError, as on any pipe.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["true"], stdin=True)
            time.sleep(0.1)
            with pytest.raises(BrokenPipeError):
                process.write(b"x" * (1 << 20))
            process.wait(5)

    def test_input_needs_to_be_asked_for(self) -> None:
        """
        Writing to a program without stdin=True is an error that says so.
        """
        with jb.Container(HOST) as container:  # noqa: SIM117
            with container.popen(["cat"]) as process:
                with pytest.raises(jb.SpecError, match="stdin=True"):
                    process.write("x")


class TestSignals:
    def test_a_signal_arrives(self) -> None:
        """
        `signal` reaches the program, which may handle it (IO-07).
        """
        script = "trap 'echo caught; exit 4' INT; echo up; while :; do sleep .01; done"
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", script])
            lines = []
            for record in process:
                lines.append(record.text)
                if record.text == "up":
                    process.signal("SIGINT")

            assert lines == ["up", "caught"]
            assert process.returncode == 4

    def test_terminate_and_kill(self) -> None:
        """
        `terminate` is SIGTERM to the program, `kill` ends its whole tree.
        """
        with jb.Container(HOST) as container:
            asked = container.popen(["sleep", "9"])
            asked.terminate()
            killed = container.popen(
                ["sh", "-c", "trap '' TERM; setsid sleep 9 & wait"]
            )
            killed.kill()

            assert asked.wait(5) == -15
            assert killed.wait(5) == -9

    def test_an_unknown_signal_is_refused(self) -> None:
        """
        A signal that does not exist is a SpecError and reaches nobody.
        """
        with (
            jb.Container(HOST) as container,
            container.popen(["sleep", "9"]) as process,
        ):
            with pytest.raises(jb.SpecError, match="SIGNOPE"):
                process.signal("SIGNOPE")

            assert process.poll() is None

    def test_signals_after_the_end_are_harmless(self) -> None:
        """
        A program that has ended can be signaled, killed and closed as often as one
        likes.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["true"])
            process.wait(5)
            for _ in range(2):
                process.signal(15)
                process.kill()
                process.close()

            assert process.returncode == 0

    def test_a_handle_survives_being_idle(self) -> None:
        """
        Nobody needs to look at a program for it to run and to be asked later.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", "seq 1 1000; exit 9"])
            time.sleep(0.3)

            assert process.wait(1) == 9
            assert len(process.result().stdout.split()) == 1000


class TestTerminal:
    def test_size_follows_resize(self) -> None:
        """
        The program's terminal has the size asked for, and follows `resize` (IO-08).
        """
        script = "trap 'stty size; exit' WINCH; stty size; while :; do sleep .01; done"
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", script], tty=(100, 30))
            lines = []
            for record in process:
                lines.append(record.text)
                if len(lines) == 1:
                    process.resize(90, 20)

        assert lines == ["30 100", "20 90"]

    def test_a_scripted_session_of_python(self) -> None:
        """
        An interactive Python sees a terminal, answers, and ends on request.
        """
        with jb.Container(HOST, env={"PYTHON_BASIC_REPL": "1"}) as container:
            process = container.popen(["python3", "-i", "-q"], tty=True)
            process.write("import sys; sys.stdin.isatty() and 6 * 7\nexit(3)\n")
            text = _all(process)

            assert "42" in text
            assert process.returncode == 3

    def test_a_terminal_is_one_stream(self) -> None:
        """
        With a terminal standard error is part of the one stream, and TERM is set.
        """
        with jb.Container(HOST) as container:
            result = container.popen(
                ["sh", "-c", "echo out; echo err >&2; echo $TERM; tty"], tty=True
            )
            text = _all(result)

        assert text == "out\r\nerr\r\nxterm\r\n/dev/pts/0\r\n"

    def test_control_c_is_a_signal(self) -> None:
        """
        The character of Ctrl-C interrupts the program in front.
        """
        with jb.Container(HOST) as container:
            process = container.popen(["sh", "-c", "echo up; sleep 99"], tty=True)
            for record in process:
                if record.text == "up":
                    process.write(b"\x03")

            assert process.returncode == -2

    def test_resize_needs_a_terminal(self) -> None:
        """
        Without a terminal there is nothing to resize.
        """
        with (  # noqa: SIM117
            jb.Container(HOST) as container,
            container.popen(["sleep", "9"]) as process,
        ):
            with pytest.raises(jb.SpecError, match="terminal"):
                process.resize(80, 24)


class TestDescriptors:
    def test_a_socket_pair_joins_both_sides(self) -> None:
        """
        A descriptor that is passed is number 3 inside: both talk without a port
        (IO-12).
        """
        ours, theirs = socket.socketpair()
        code = (
            "import socket; s = socket.socket(fileno=3)\ns.sendall(s.recv(100).upper())"
        )
        with jb.Container(HOST) as container, ours:
            with theirs:
                process = container.popen(
                    ["python3", "-c", code], pass_fds=[theirs.fileno()]
                )
            ours.sendall(b"hello")

            assert ours.recv(100) == b"HELLO"
            assert ours.recv(100) == b""
            assert process.wait(5) == 0

    def test_descriptors_arrive_in_order(self, tmp_path: Path) -> None:
        """
        Several descriptors become 3, 4, ...; they stay open at the caller's.
        """
        (tmp_path / "a").write_text("A")
        (tmp_path / "b").write_text("B")
        with (tmp_path / "a").open() as a, (tmp_path / "b").open() as b:
            result = jb.run(
                HOST,
                ["sh", "-c", "cat <&4; cat <&3"],
                pass_fds=[a.fileno(), b.fileno()],
            )

            assert result.stdout == "BA"
            assert os.fstat(a.fileno()).st_size == 1

    def test_one_descriptor_may_be_passed_twice(self, tmp_path: Path) -> None:
        """
        The same descriptor may be given more than once.
        """
        (tmp_path / "a").write_text("A")
        with (tmp_path / "a").open() as a:
            result = jb.run(
                HOST, ["ls", "/proc/self/fd"], pass_fds=[a.fileno(), a.fileno()]
            )

        assert result.stdout.split() == ["0", "1", "2", "3", "4", "5"]


def _all(process: "jb.Process[str]") -> str:
    return b"".join(data for _, data in process.chunks()).decode()
