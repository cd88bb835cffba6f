"""Changes of a file system, as values."""

import pickle
import stat

import pytest

from jailbox.spec.change import Change, ChangeKind, FileType


class TestChange:
    """One path that differs."""

    def test_value(self) -> None:
        """A change is made from words, comparable, hashable and picklable."""
        change = Change("added", "/a", "file", size=3, mode=0o644)

        assert change == Change(
            ChangeKind.ADDED, "/a", FileType.FILE, size=3, mode=0o644
        )
        assert pickle.loads(pickle.dumps(change)) == change  # noqa: S301
        assert len({change, change}) == 1

    def test_printed(self) -> None:
        """DV8: a path out of a jail does not drive the terminal."""
        change = Change(ChangeKind.REMOVED, "/a\x1b[2J\n")

        assert str(change) == "removed /a\\x1b[2J\\n"
        assert repr(change).isprintable()
        assert "mode=0o0" in repr(change)

    def test_unknown_kind(self) -> None:
        """There are three kinds."""
        with pytest.raises(ValueError, match="renamed"):
            Change("renamed", "/a")


class TestFileType:
    """Types out of modes."""

    @pytest.mark.parametrize(
        ("bits", "kind"),
        [
            (stat.S_IFREG, FileType.FILE),
            (stat.S_IFDIR, FileType.DIRECTORY),
            (stat.S_IFLNK, FileType.SYMLINK),
            (stat.S_IFIFO, FileType.FIFO),
            (stat.S_IFSOCK, FileType.SOCKET),
            (stat.S_IFCHR, FileType.CHARACTER_DEVICE),
            (stat.S_IFBLK, FileType.BLOCK_DEVICE),
        ],
    )
    def test_of_mode(self, bits: int, kind: FileType) -> None:
        """The type is read out of st_mode, whatever the permissions."""
        assert FileType.of_mode(bits | 0o4755) is kind

    def test_unknown(self) -> None:
        """A mode without a type is refused."""
        with pytest.raises(ValueError, match="mode 644"):
            FileType.of_mode(0o644)
