"""What a store is, where it can be, and who may look into it."""

import os
import stat
from pathlib import Path

import pytest

from jailbox.errors import ContentError, NotFound, SpecError, StoreError, Unsupported
from jailbox.spec.digest import Digest
from jailbox.store import place
from tests.store.images import add_image, named, open_store

ABSENT = Digest.of(b"what was never stored")


def modes(top: Path) -> dict[str, int]:
    """Return the permission bits of everything in a directory."""
    found = {".": top.lstat().st_mode & 0o7777}
    for path in sorted(top.rglob("*")):
        found[str(path.relative_to(top))] = path.lstat().st_mode & 0o7777
    return found


class TestOpening:
    def test_a_store_is_made_where_there_is_none(self, tmp_path: Path) -> None:
        """
        Opening a path where nothing is makes a store, with the directories above it.
        """
        with open_store(tmp_path / "a/b/store") as store:
            assert store.images.list() == []
            assert store.tags.list() == {}

    def test_what_is_stored_is_there_for_the_next(self, tmp_path: Path) -> None:
        """
        What one `Store` adds, another one finds, also while both are open.
        """
        with open_store(tmp_path) as one, open_store(tmp_path) as other:
            record = add_image(one, {"a": "1"}, name="base")

            assert other.get("base") == record

    def test_two_stores_in_one_process(self, tmp_path: Path) -> None:
        """
        Two stores in one process know nothing of each other (CLN-04).
        """
        with open_store(tmp_path / "1") as one, open_store(tmp_path / "2") as other:
            add_image(one, {"a": "1"}, name="base")

            assert one.images.list()
            assert other.images.list() == []

    def test_a_directory_of_something_else_is_refused(self, tmp_path: Path) -> None:
        """
        A directory with other things in it does not become a store, and is left alone.
        """
        (tmp_path / "thesis.txt").write_text("...")

        with pytest.raises(SpecError, match="neither a store nor empty"):
            open_store(tmp_path)
        assert os.listdir(tmp_path) == ["thesis.txt"]

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        """
        A path that leads to a file is no store.
        """
        (tmp_path / "file").touch()

        with pytest.raises(SpecError, match="is no directory"):
            open_store(tmp_path / "file")

    def test_a_closed_store_is_closed(self, tmp_path: Path) -> None:
        """
        A closed store does nothing more; closing it again is harmless.
        """
        store = open_store(tmp_path)
        store.close()
        store.close()

        with pytest.raises(ValueError, match="closed"):
            store.images.list()

    def test_default_path_of_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Root's store is in /var/lib.
        """
        monkeypatch.setattr(os, "geteuid", lambda: 0)

        assert place.default_path() == "/var/lib/jailbox"

    @pytest.mark.parametrize(
        ("variable", "path"),
        [
            ("/data", "/data/jailbox"),
            ("", "/home/me/.local/share/jailbox"),
            ("relative", "/home/me/.local/share/jailbox"),
        ],
    )
    def test_default_path_of_users(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, path: str
    ) -> None:
        """
        A user's store is where XDG_DATA_HOME says, if that is an absolute path, else in
        ~/.local/share.
        """
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("XDG_DATA_HOME", variable)
        monkeypatch.setenv("HOME", "/home/me")

        assert place.default_path() == path


class TestPaths:
    def test_sto18_all_ways_lead_to_one_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A relative path, a link to it and a slash at the end mean the same store.
        """
        (tmp_path / "link").symlink_to("real")
        (tmp_path / "real").mkdir()
        monkeypatch.chdir(tmp_path)
        with open_store(tmp_path / "real") as store:
            record = add_image(store, {"a": "1"}, name="base")

        for path in ("real", "./real/", "link", f"{tmp_path}/link//", "real/../real"):
            with open_store(path) as store:
                assert store.path == str(tmp_path / "real")
                assert store.get("base") == record

    def test_sto18_a_store_does_not_move_with_the_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A store that was opened by a relative path is the same after a chdir.
        """
        monkeypatch.chdir(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        with open_store("store") as store:
            monkeypatch.chdir(tmp_path / "elsewhere")
            add_image(store, {"a": "1"}, name="base")

            assert store.tags.list()
        assert os.listdir(tmp_path / "elsewhere") == []

    def test_sto18_a_path_of_4000_bytes(self, tmp_path: Path) -> None:
        """
        A store works at a path of 4,000 bytes, though paths below it are too long for
        the kernel.
        """
        path = str(tmp_path)
        while len(path) < 3800:
            path += "/" + "d" * 100
        path += "/" + "e" * (3999 - len(path))
        assert len(path) == 4000
        with open_store(path) as store:
            record = add_image(store, {"a": "1"}, name="base")

            assert store.get("base") == record
            store.remove(named("base"))
            assert store.gc().layers == 1

    @pytest.mark.parametrize("length", [4096, 5000])
    def test_sto18_a_path_that_is_too_long(self, tmp_path: Path, length: int) -> None:
        """
        A path that the kernel does not take is an error that says so.
        """
        path = str(tmp_path) + "/d" * ((length - len(str(tmp_path))) // 2 + 1)

        with pytest.raises(StoreError, match="ENAMETOOLONG") as caught:
            open_store(path)
        assert caught.value.__notes__ == ["Keep the store at a shorter path."]

    @pytest.mark.parametrize("path", ["", "a\0b"])
    def test_what_is_no_path_is_refused(self, path: str) -> None:
        """
        The empty text and one with a zero byte are no paths.
        """
        with pytest.raises(SpecError, match="is no path"):
            open_store(path)


class TestModes:
    def test_sto14_nobody_else_may_look_or_write(self, tmp_path: Path) -> None:
        """
        The directory of a store is 0700, its records are 0600, its blobs 0444, and
        nothing of ours is writable by the group or by others, whatever the umask.
        """
        before = os.umask(0)
        try:
            with open_store(tmp_path / "store") as store:
                add_image(store, {"a": "1"}, name="base")
        finally:
            os.umask(before)

        found = modes(tmp_path / "store")
        assert found["."] == 0o700
        for name, mode in found.items():
            if "/root/" in name or name.endswith("/root"):
                continue  # The tree belongs to the image.
            path = tmp_path / "store" / name
            if path.is_dir():
                assert mode == 0o700, name
            elif name.startswith("blobs/"):
                assert mode == 0o444, name
            else:
                assert mode == 0o600, name

    def test_sto14_an_empty_directory_is_closed(self, tmp_path: Path) -> None:
        """
        An empty directory that others may read becomes a store that they may not.
        """
        tmp_path.chmod(0o755)
        with open_store(tmp_path):
            assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700

    def test_sto14_a_store_that_others_may_write_is_not_trusted(
        self, tmp_path: Path
    ) -> None:
        """
        A store whose directory others can write to is refused, with what to do.
        """
        open_store(tmp_path).close()
        tmp_path.chmod(0o770)

        with pytest.raises(StoreError, match="trust the store") as caught:
            open_store(tmp_path)
        assert "chmod go-w" in caught.value.__notes__[0]


class TestFormat:
    def test_sto15_a_newer_format_is_an_error(self, tmp_path: Path) -> None:
        """
        A store of a later version is not touched, and the error names both versions.
        """
        open_store(tmp_path).close()
        (tmp_path / "format").write_text("jailbox store 2\n")

        with pytest.raises(ContentError, match="has format 2, this jailbox knows 1"):
            open_store(tmp_path)
        assert (tmp_path / "format").read_text() == "jailbox store 2\n"

    @pytest.mark.parametrize("at", range(len("jailbox store 1\n")))
    def test_sto13_a_flipped_byte_in_the_format(self, tmp_path: Path, at: int) -> None:
        """
        A format file with one byte changed is never taken for this version.
        """
        open_store(tmp_path).close()
        words = bytearray((tmp_path / "format").read_bytes())
        words[at] ^= 2
        (tmp_path / "format").write_bytes(words)

        with pytest.raises(ContentError, match="format"):
            open_store(tmp_path)

    def test_sto15_an_interrupted_making_is_finished(self, tmp_path: Path) -> None:
        """
        A store that was being made when its maker was killed is made by the next.
        """
        (tmp_path / "blobs").mkdir()
        (tmp_path / "tmp").mkdir()
        (tmp_path / "tmp/0123456789abcdef").write_text("half of a for")

        with open_store(tmp_path) as store:
            add_image(store, {"a": "1"})

            assert store.gc().leftovers == 1


class TestReadOnly:
    def test_a_read_only_use_makes_nothing(self, tmp_path: Path) -> None:
        """
        Looking for a store where none is is an error, and leaves nothing.
        """
        with pytest.raises(StoreError, match="ENOENT"):
            open_store(tmp_path / "store", read_only=True)
        assert os.listdir(tmp_path) == []


class TestMissingThings:
    def test_what_is_not_there(self, tmp_path: Path) -> None:
        """
        What is not stored is told as None by get, and as NotFound by open.
        """
        with open_store(tmp_path) as store:
            assert not store.blobs.has(ABSENT)
            assert store.blobs.size(ABSENT) is None
            assert store.images.get(ABSENT) is None
            assert store.layers.get(ABSENT) is None
            assert store.tags.get(named("absent")) is None
            for ask in (
                lambda: store.blobs.open(ABSENT),
                lambda: store.blobs.read(ABSENT),
                lambda: store.layers.open(ABSENT),
                lambda: store.get(ABSENT),
                lambda: store.get("absent"),
                lambda: store.lease(named("absent")),
                lambda: store.lease(ABSENT),
                lambda: store.remove(named("absent")),
                lambda: store.remove(ABSENT),
                lambda: store.tags.set(named("absent"), ABSENT),
            ):
                with pytest.raises(NotFound):
                    ask()


def test_what_a_file_system_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where something is missing that layers need, no store is made, and it is named.
    """

    def no_mknod(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", no_mknod)

    with pytest.raises(Unsupported, match="marks of deleted files"):
        open_store(tmp_path)
    assert not (tmp_path / "format").exists()
