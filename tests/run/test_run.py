"""
What `run` promises about a program that ends by itself: output, code, surroundings.
"""

import io
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jailbox as jb

pytestmark = pytest.mark.userns

HOST = jb.Image.host()


def sh(script: str, **options: object) -> "jb.Result[str]":
    """Run a shell script on the host image."""
    return jb.run(HOST, ["sh", "-c", script], **options)  # type: ignore[arg-type]


class TestOutput:
    def test_each_stream_is_exact(self) -> None:
        """
        Standard output and standard error are separate, complete and unchanged.
        """
        result = sh("printf 'a\\n\\tb'; printf 'c\\r\\n' >&2")

        assert (result.stdout, result.stderr) == ("a\n\tb", "c\r\n")

    def test_a_megabyte_on_both_streams_at_once_is_exact(self) -> None:
        """
        A program that alternates between both streams loses and mixes nothing.
        """
        code = (
            "import os\n"
            "for n in range(256):\n"
            "    os.write(1, bytes([n]) * 4096)\n"
            "    os.write(2, bytes([255 - n]) * 4096)\n"
        )

        result = jb.run(HOST, ["python3", "-c", code], text=False)

        assert result.stdout == b"".join(bytes([n]) * 4096 for n in range(256))
        assert result.stderr == b"".join(bytes([255 - n]) * 4096 for n in range(256))

    def test_bytes_are_given_as_they_are_without_text(self) -> None:
        """
        With text=False output is bytes, whatever they are.
        """
        result = jb.run(HOST, ["printf", r"\377\000\n"], text=False)

        assert result.stdout == b"\xff\x00\n"
        assert result.stderr == b""

    def test_text_replaces_what_is_no_utf8(self) -> None:
        """
        Text output never fails to decode: bad bytes are replaced.
        """
        result = jb.run(HOST, ["printf", r"\303\251\377"])

        assert result.stdout == "\u00e9\ufffd"

    def test_streams_can_be_merged(self) -> None:
        """
        With stderr="stdout" both go to standard output, in the order of writing.
        """
        result = sh("echo 1; echo 2 >&2; echo 3", stderr="stdout")

        assert (result.stdout, result.stderr) == ("1\n2\n3\n", "")

    def test_a_shell_reads_a_string_on_request(self) -> None:
        """
        With shell=True the image's /bin/sh reads one string.
        """
        result = jb.run(HOST, "echo $((6 * 7)) | tr 4 x", shell=True)

        assert result.stdout == "x2\n"

    def test_argv_is_handed_over_unchanged(self) -> None:
        """
        Arguments reach the program as they are: spaces, quotes, nothing, any byte.
        """
        argv: list[str | bytes] = ["a b", "", "'\"$HOME", "\u00e9", b"\xff"]

        result = jb.run(HOST, ["printf", "%s|", *argv], text=False)

        assert result.stdout == "a b||'\"$HOME|\u00e9|".encode() + b"\xff|"

    @pytest.mark.cgroup
    def test_result_names_what_was_run(self) -> None:
        """
        The result carries argv and the limits under which it ran.
        """
        limits = jb.Limits(processes=7)

        result = jb.run(HOST, ["true"], limits=limits)

        assert result.argv == ("true",)
        assert result.limits == limits
        assert result.truncated is False


class TestEnd:
    def test_every_exit_code_is_exact(self) -> None:
        """
        Exit codes 0 to 255 arrive as they are (LIF7).
        """
        with jb.Container(HOST) as container:
            found = [
                container.exec(["sh", "-c", f"exit {code}"]).exit_code
                for code in range(256)
            ]

        assert found == list(range(256))

    @pytest.mark.parametrize("code", [0, 1, 127, 255])
    def test_run_gives_the_exit_code(self, code: int) -> None:
        """
        `run` tells the code of its program; only 0 is ok.
        """
        result = sh(f"exit {code}")

        assert (result.exit_code, result.signal) == (code, None)
        assert result.returncode == code
        assert result.ok is (code == 0)
        assert result.verdict == ("exit" if code else "ok")

    def test_every_signal_is_exact(self) -> None:
        """
        A program that dies of a signal says which one, not a code (LIF7).
        """
        deadly = sorted(
            set(signal.valid_signals())
            - {
                signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT,
                signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
            }
        )  # fmt: skip
        with jb.Container(HOST) as container:
            found = {
                number: container.exec(["sh", "-c", f"kill -{number} $$; sleep 9"])
                for number in map(int, deadly)
            }

        assert {n: r.signal for n, r in found.items()} == {n: n for n in found}
        assert {r.exit_code for r in found.values()} == {None}

    def test_a_signal_is_negative_as_in_subprocess(self) -> None:
        """
        `returncode` is minus the signal, and the verdict is ``signal``.
        """
        result = sh("kill -TERM $$")

        assert (result.returncode, result.verdict) == (-15, "signal")
        assert not result.ok

    def test_a_bad_end_is_no_error_unless_asked(self) -> None:
        """
        Only with check=True a non-zero exit raises; the error has the result.
        """
        with pytest.raises(jb.ExitError) as caught:
            sh("echo out; echo last words >&2; exit 3", check=True)

        assert caught.value.result.exit_code == 3
        assert caught.value.result.stdout == "out\n"
        assert "last words" in "".join(caught.value.__notes__)

    def test_check_gives_the_result_of_a_good_end(self) -> None:
        """
        With check=True a program that ends well gives its result.
        """
        assert sh("echo fine", check=True).stdout == "fine\n"

    def test_a_grandchild_with_our_output_does_not_delay_the_end(self) -> None:
        """
        What is left in the background ends with the main program (LIF12).
        """
        result = sh("sleep 60 & echo started", timeout=10)

        assert result.ok
        assert result.stdout == "started\n"
        assert result.usage.wall < 1


class TestInput:
    def test_input_is_empty_by_default(self) -> None:
        """
        A program that reads gets the end of file, never the host's input.
        """
        result = sh("cat; echo end; readlink /proc/self/fd/0")

        assert result.stdout == "end\n/dev/null\n"

    @pytest.mark.parametrize(
        "given",
        ["h\u00e9llo", "h\u00e9llo".encode(), bytearray("h\u00e9llo".encode()),
         memoryview("h\u00e9llo".encode())],
        ids=["str", "bytes", "bytearray", "memoryview"],
    )  # fmt: skip
    def test_input_is_text_or_bytes(self, given: bytes) -> None:
        """
        A str is encoded as UTF-8, bytes-like objects go as they are.
        """
        assert jb.run(HOST, ["cat"], input=given).stdout == "h\u00e9llo"

    def test_input_can_be_a_file(self, tmp_path: Path) -> None:
        """
        A file object is read from where it stands to its end.
        """
        (tmp_path / "f").write_bytes(b"skipped\nkept\n")
        with (tmp_path / "f").open("rb") as file:
            file.readline()
            result = jb.run(HOST, ["cat"], input=file)

        assert result.stdout == "kept\n"

    def test_input_can_be_a_file_in_memory(self) -> None:
        """
        Any object with read() is a file, of text or of bytes.
        """
        assert jb.run(HOST, ["cat"], input=io.StringIO("a\u00e9")).stdout == "a\u00e9"
        assert jb.run(HOST, ["cat"], input=io.BytesIO(b"b")).stdout == "b"

    def test_input_can_be_an_iterable(self) -> None:
        """
        An iterable of pieces is written piece by piece, text and bytes alike.
        """

        def pieces() -> Iterator[str | bytes]:
            yield "one "
            yield b""
            yield b"two"

        assert jb.run(HOST, ["cat"], input=pieces()).stdout == "one two"

    def test_ten_megabytes_pass_through_cat(self) -> None:
        """
        Input and output of any size flow at the same time, without a deadlock (C4).
        """
        data = os.urandom(10 << 20)

        result = jb.run(HOST, ["cat"], input=data, text=False, timeout=30)

        assert result.stdout == data

    def test_a_program_need_not_read_its_input(self) -> None:
        """
        A program that ends without reading is no error, however much was to come.
        """
        result = jb.run(HOST, ["true"], input=b"x" * (4 << 20), timeout=10)

        assert result.ok

    def test_a_program_may_close_its_input_and_go_on(self) -> None:
        """
        Input that nobody takes is dropped, and the program runs to its end.
        """
        result = sh(
            "exec 0<&-; sleep 0.1; echo done", input=b"x" * (1 << 20), timeout=10
        )

        assert result.stdout == "done\n"

    def test_an_input_that_fails_ends_the_program(self) -> None:
        """
        An error in the caller's iterator is the caller's error; nothing runs on.
        """

        def broken() -> Iterator[bytes]:
            yield b"a"
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            jb.run(HOST, ["cat"], input=broken(), timeout=10)


class TestSurroundings:
    def test_the_environment_is_clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Nothing of the host's environment is seen; a few variables are made.
        """
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")

        names = {line.partition("=")[0] for line in sh("env").stdout.splitlines()}

        assert names == {"HOME", "HOSTNAME", "PATH", "PWD"}

    def test_variables_are_exact(self) -> None:
        """
        Variables that are given arrive unchanged, and win over the defaults.
        """
        env = {"A": "x y\n=z", "HOME": "/tmp", "E": "\u00e9"}
        script = 'printf "%s|" "$A" "$HOME" "$E"'

        assert sh(script, env=env).stdout == "x y\n=z|/tmp|\u00e9|"

    def test_working_directory_is_as_wanted(self) -> None:
        """
        The program starts in cwd, and in / by default.
        """
        assert sh("pwd", cwd="/usr/bin").stdout == "/usr/bin\n"
        assert sh("pwd").stdout == "/\n"

    @pytest.mark.root
    def test_user_and_groups_are_as_wanted(self) -> None:
        """
        A program runs as exactly the user, group and groups that were asked for.
        """
        script = "id -u; id -g; id -G"

        result = sh(script, user="1234:55", groups=[7, "users"])

        assert result.stdout == "1234\n55\n55 7 100\n"

    @pytest.mark.root
    def test_user_is_found_in_the_image(self) -> None:
        """
        A name is looked up in the image's own passwd; its home is HOME.
        """
        result = sh('id -u; id -g; echo "$HOME"', user="nobody")

        assert result.stdout == "65534\n65534\n/nonexistent\n"

    def test_the_default_user_is_root_of_the_jail(self) -> None:
        """
        By default a program is user 0 inside, with no group of the host's.
        """
        assert sh("id -u; id -G").stdout == "0\n0\n"

    def test_umask_is_as_wanted(self) -> None:
        """
        The umask is the one asked for, 022 by default, whatever the host has.
        """
        before = os.umask(0o077)
        try:
            assert sh("umask").stdout == "0022\n"
            assert sh("umask", umask=0o027).stdout == "0027\n"
        finally:
            os.umask(before)

    def test_hostname_is_as_wanted(self) -> None:
        """
        The jail has the host name that was asked for.
        """
        assert sh("cat /proc/sys/kernel/hostname", hostname="box.test").stdout == (
            "box.test\n"
        )

    def test_descriptors_are_three(self) -> None:
        """
        A program has standard input, output and error, and nothing else.
        """
        with tempfile.TemporaryFile() as file:
            os.set_inheritable(file.fileno(), True)  # noqa: FBT003
            result = jb.run(HOST, ["ls", "/proc/self/fd"])

        # The fourth is the directory that ls reads.
        assert result.stdout.split() == ["0", "1", "2", "3"]

    def test_signals_are_as_after_login(self) -> None:
        """
        No signal is ignored or blocked, whatever the host does with them.
        """
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            text = jb.run(HOST, ["cat", "/proc/self/status"]).stdout
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
            signal.signal(signal.SIGUSR1, before)
        masks = dict(
            line.split(":\t") for line in text.splitlines() if line.startswith("Sig")
        )

        assert int(masks["SigBlk"], 16) == 0
        assert int(masks["SigIgn"], 16) == 0

    def test_a_program_leads_its_own_session(self) -> None:
        """
        A program is leader of a session and process group of its own.
        """
        fields = jb.run(HOST, ["cat", "/proc/self/stat"]).stdout.rpartition(") ")[2]
        _, _, group, session = fields.split()[:4]

        assert group == session == "2"

    def test_a_read_only_root_cannot_be_written(self) -> None:
        """
        With read_only=True writing fails, while /dev/null and /dev/shm still work.
        """
        result = sh("echo x > /x; echo y > /dev/null && echo z > /dev/shm/z && echo ok",
                    read_only=True)  # fmt: skip

        assert result.stdout == "ok\n"
        assert "Read-only file system" in result.stderr


class TestImages:
    def test_a_directory_can_be_the_root(self, busybox_rootfs: Path) -> None:
        """
        `Image.from_dir` runs programs of that directory, which is not written to.
        """
        image = jb.Image.from_dir(busybox_rootfs)

        result = jb.run(image, ["sh", "-c", "echo hi > /new; cat /new; ls /"])

        assert result.stdout.splitlines()[0] == "hi"
        assert "new" in result.stdout.splitlines()[1:]
        assert not (busybox_rootfs / "new").exists()

    def test_a_static_program_needs_nothing_else(
        self, static_true: Path, tmp_path: Path
    ) -> None:
        """
        A root with one static program in it is enough.
        """
        root = tmp_path / "root"
        root.mkdir()
        (root / "true").write_bytes(static_true.read_bytes())
        (root / "true").chmod(0o755)

        assert jb.run(jb.Image.from_dir(root), ["/true"]).ok
