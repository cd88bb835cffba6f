"""Where requests go: origins, redirects, pages, ranges."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.registry.address import (
    Origin,
    Refusal,
    content_range,
    hop,
    is_local,
    next_page,
    origin_of,
    with_query,
)

UNHURRIED = settings(deadline=None, max_examples=200)
HERE = "https://registry.example/v2/a/blobs/sha256:00"


class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("https://h", Origin("https", "h", 443)),
            ("http://h", Origin("http", "h", 80)),
            ("https://H.Example:5000/x?y#z", Origin("https", "h.example", 5000)),
            ("http://[::1]:5000/", Origin("http", "::1", 5000)),
        ],
    )
    def test_read(self, url: str, expected: Origin) -> None:
        """Scheme, host and port make an origin; the port of the scheme goes without."""
        assert origin_of(url) == expected

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "h:5000/x",
            "//h/x",
            "ftp://h/",
            "file:///etc/passwd",
            "https://",
            "https://user@h/",
            "https://user:password@h/",
            "https://h:99999/",
            "https://h:x/",
            "https://h/ x",
            "https://h\\@other/",
            "https://h/\r\nX: y",
            "https://h/" + "x" * 20_000,
        ],
    )
    def test_refused(self, url: str) -> None:
        """Nothing but a plain http or https address has an origin."""
        assert origin_of(url) is None

    def test_printed(self) -> None:
        """An origin is printed as the beginning of its addresses."""
        assert str(Origin("http", "::1", 5000)) == "http://[::1]:5000"
        assert str(Origin("https", "h", 443)) == "https://h"
        assert str(Origin("https", "h", 80)) == "https://h:80"


class TestHop:
    @pytest.mark.parametrize(
        ("location", "expected"),
        [
            ("/x?y=1", "https://registry.example/x?y=1"),
            ("other", "https://registry.example/v2/a/blobs/other"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("https://cdn.example/x#part", "https://cdn.example/x"),
        ],
    )
    def test_followed(self, location: str, expected: str) -> None:
        """A redirect leads where its Location says, relative to what was asked for."""
        assert hop(HERE, location, plain_http=False) == expected

    @pytest.mark.parametrize(
        "location",
        [
            None,
            "",
            "http://registry.example/x",
            "file:///etc/passwd",
            "gopher://h/",
            "https://user:password@h/",
            "https://h/\nX: y",
            "https://[x/",
            "https://169.254.169.254/latest/meta-data",
            "https://[fd00:ec2::254]/",
        ],
    )
    def test_refused(self, location: str | None) -> None:
        """REG3: no way from https to http, nor to metadata, nor to no address."""
        assert isinstance(hop(HERE, location, plain_http=False), Refusal)

    def test_plain_http_is_allowed_by_its_flag(self) -> None:
        """REG3: a registry that is marked may redirect to plain HTTP."""
        target = hop(HERE, "http://cdn.example/", plain_http=True)

        assert target == "http://cdn.example/"


class TestQuery:
    def test_added(self) -> None:
        """A query is added to, not replaced."""
        assert with_query("/x", digest="sha256:0") == "/x?digest=sha256:0"
        assert with_query("/x?s=1", digest="a") == "/x?s=1&digest=a"
        assert with_query("/x?", a="b/c d") == "/x?a=b%2Fc%20d"
        assert with_query("/x") == "/x"


class TestPages:
    @pytest.mark.parametrize(
        ("link", "expected"),
        [
            ('</v2/a/tags/list?last=b&n=2>; rel="next"', "/v2/a/tags/list?last=b&n=2"),
            ("</x>; rel=next", "/x"),
            ('</x>; title="a, b; rel=prev"; rel="next"', "/x"),
            ('</y>; rel="prev", </x>; rel="next"', "/x"),
            ('</x>; REL="first NEXT"', "/x"),
            # A registry behind a proxy names itself as it knows itself.
            ("<http://internal:5000/x?n=1>; rel=next", "/x?n=1"),
            ('<?last=b>; rel="next"', "/v2/a/tags/list?last=b"),
        ],
    )
    def test_next(self, link: str, expected: str) -> None:
        """The next page is at the same origin, by path and query of the link."""
        url = "https://registry.example/v2/a/tags/list"

        assert next_page(url, link) == f"https://registry.example{expected}"

    @pytest.mark.parametrize(
        "link",
        [None, "", "x", "<", "</x", "</x>", '</x>; rel="prev"', "</\n>; rel=next"],
    )
    def test_last(self, link: str | None) -> None:
        """Without a link that says next, this was the last page."""
        assert next_page("https://registry.example/x", link) is None


class TestRange:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("bytes 5-9/10", (5, 9, 10)),
            (" bytes 0-0/* ", (0, 0, None)),
            ("bytes 5-10/10", None),
            ("bytes 6-5/10", None),
            ("bytes */10", None),
            ("bytes 5-/10", None),
            ("bytes=5-9/10", None),
            ("items 5-9/10", None),
            ("", None),
            (None, None),
        ],
    )
    def test_read(
        self, text: str | None, expected: tuple[int, int, int | None] | None
    ) -> None:
        """A range that makes no sense is none."""
        assert content_range(text) == expected


class TestLocal:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",  # noqa: S104  (refused)
            "169.254.169.254",
            "fe80::1%eth0",
            "fd00:ec2::254",
        ],
    )
    def test_local(self, address: str) -> None:
        """REG4: loopback, link-local and metadata addresses are known in every form."""
        assert is_local(address)

    @pytest.mark.parametrize("address", ["10.0.0.1", "192.0.2.1", "2001:db8::1", "h"])
    def test_not_local(self, address: str) -> None:
        """What is in a private network is not this machine."""
        assert not is_local(address)


class TestStrangers:
    @UNHURRIED
    @given(st.text(max_size=300))
    def test_links_and_ranges(self, text: str) -> None:
        """REG11: whatever stands in a header, the answer stays at the registry."""
        following = next_page("https://registry.example/v2/", text)
        if following is not None:
            assert origin_of(following) == Origin("https", "registry.example", 443)
        found = content_range(text)
        assert found is None or found[0] <= found[1]

    @UNHURRIED
    @given(st.text(max_size=300))
    def test_redirects(self, text: str) -> None:
        """A redirect leads to an http or https address, or nowhere."""
        target = hop(HERE, text, plain_http=False)
        if isinstance(target, str):
            found = origin_of(target)
            assert found is not None
            assert found.scheme == "https"

    @pytest.mark.parametrize(
        "text",
        [
            "<" * 100_000,
            "<>;" * 50_000,
            '<>;"' + "\\" * 100_000,
            "</x>" + "; a=b" * 30_000,
            "bytes " + "9" * 100_000,
            ('<x>; rel="' + "a " * 100_000),
        ],
    )
    def test_no_hang(self, text: str) -> None:
        """REG11: texts made to be slow are read within 100 ms."""
        began = time.thread_time()
        next_page("https://registry.example/", text)
        content_range(text)

        assert time.thread_time() - began < 0.1
