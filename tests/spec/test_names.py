"""
The values behind names: networks with addresses in them, and logs that are chosen from.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest

from jailbox.engine.base import LogEntry
from jailbox.engine.logs import chosen
from jailbox.errors import SpecError
from jailbox.run.names import name_files
from jailbox.spec.container import ContainerSpec
from jailbox.spec.network import Network

Json: TypeAlias = Any


def files(hostname: str = "box", resolver: str | None = None, **more: Json) -> Json:
    """Write the files of a container; by name, as text."""
    spec = ContainerSpec(image=None, **more)
    found = name_files(spec, hostname, resolver)
    return {name: content.decode() for name, content in found}


class TestNetwork:
    @pytest.mark.parametrize(
        ("options", "argument"),
        [
            ({"hosts": {"db": "not-an-address"}}, "hosts['db']"),
            ({"hosts": {"a b": "192.0.2.1"}}, "hosts"),
            ({"hosts": {"a\nb": "192.0.2.1"}}, "hosts"),
            ({"dns": ["ns.example.com"]}, "dns"),
            ({"dns": "192.0.2.53"}, "dns"),
            ({"dns_search": ["exa mple"]}, "dns_search"),
            ({"dns_options": ["ndots:2 rotate"]}, "dns_options"),
        ],
    )
    def test_refused(self, options: dict[str, Any], argument: str) -> None:
        """
        What could not be a line of /etc/hosts or resolv.conf is refused by name.
        """
        with pytest.raises(SpecError) as caught:
            Network(**options)

        assert argument == caught.value.argument

    def test_addresses_are_written_one_way(self) -> None:
        """
        Addresses that are the same are equal, however they were written.
        """
        assert Network(hosts={"a": "2001:db8:0::5"}) == Network(
            hosts={"a": "2001:db8::5"}
        )


class TestFiles:
    def test_a_host_knows_itself(self) -> None:
        """
        /etc/hosts has the loopback, the host's full and short name, and what was asked.
        """
        network = Network(hosts={"db": "192.0.2.7"})
        lines = files(domainname="example.com", network=network)["hosts"].splitlines()

        assert "127.0.0.1\tlocalhost" in lines
        assert "127.0.1.1\tbox.example.com box" in lines
        assert "192.0.2.7\tdb" in lines

    def test_without_wishes_the_resolver_is_left_alone(self) -> None:
        """
        A jail without a network keeps the resolv.conf of its image; one with the host's
        network gets the host's.
        """
        assert "resolv.conf" not in files()
        assert (
            "nameserver 192.0.2.1\n"
            == files(resolver="nameserver 192.0.2.1\n")["resolv.conf"]
        )

    def test_wishes_stand_for_lines_of_the_host(self) -> None:
        """
        What was asked for replaces lines of its kind; the others stay the host's.
        """
        resolver = "# by hand\nnameserver 192.0.2.1\nsearch here\noptions rotate\n"
        network = Network("host", dns=["192.0.2.53"], dns_search=["a.example"])

        assert (
            "nameserver 192.0.2.53\nsearch a.example\noptions rotate\n"
            == files(resolver=resolver, network=network)["resolv.conf"]
        )


BEGAN = time.time() - 1000
LOG = (
    LogEntry(BEGAN + 100, "stdout", b"one\ntwo\n"),
    LogEntry(BEGAN + 200, "stderr", b"oops\n"),
    LogEntry(BEGAN + 300, "stdout", b"three\nfo"),
    LogEntry(BEGAN + 301, "stdout", b"ur\n"),
)


def joined(entries: tuple[LogEntry, ...]) -> bytes:
    """Put the bytes together."""
    return b"".join(entry.data for entry in entries)


class TestLogs:
    def test_all(self) -> None:
        """
        Without a wish it is all of it, in order.
        """
        assert chosen(LOG) == LOG

    def test_stream(self) -> None:
        """
        One stream can be asked for, by a name that there is.
        """
        assert joined(chosen(LOG, stream="stderr")) == b"oops\n"
        with pytest.raises(SpecError):
            chosen(LOG, stream="stdlog")

    def test_since(self) -> None:
        """
        A moment, or so long ago, leaves out what is older.
        """
        moment = datetime.fromtimestamp(BEGAN + 250, UTC)
        ago = datetime.now(UTC) - moment

        assert joined(chosen(LOG, since=moment)) == b"three\nfour\n"
        assert joined(chosen(LOG, since=ago)) == b"three\nfour\n"
        assert chosen(LOG, since=timedelta(seconds=1)) == ()
        with pytest.raises(SpecError, match="time zone"):
            chosen(LOG, since=moment.replace(tzinfo=None))

    @pytest.mark.parametrize(
        ("tail", "expected"),
        [
            (0, b""),
            (1, b"four\n"),
            (2, b"three\nfour\n"),
            (3, b"oops\nthree\nfour\n"),
            (4, b"two\noops\nthree\nfour\n"),
            (99, b"one\ntwo\noops\nthree\nfour\n"),
        ],
    )
    def test_tail(self, tail: int, expected: bytes) -> None:
        """
        The last lines are whole lines, wherever the pieces were cut.
        """
        assert joined(chosen(LOG, tail=tail)) == expected
