"""What a registry asks for when it says 401."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jailbox.registry.address import Origin, Refusal
from jailbox.registry.challenge import (
    Challenge,
    choose,
    merge_scopes,
    parse,
    realm_of,
)

UNHURRIED = settings(deadline=None, max_examples=100)
REGISTRY = Origin("https", "registry.example", 443)


def bearer(**parameters: str) -> Challenge:
    """Make a challenge for a token."""
    return Challenge("bearer", parameters)


class TestParse:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (None, ()),
            ("", ()),
            ("Basic", (Challenge("basic"),)),
            ('Basic realm="x"', (Challenge("basic", {"realm": "x"}),)),
            (
                'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
                (
                    bearer(
                        realm="https://a/t",
                        service="s",
                        scope="repository:a/b:pull,push",
                    ),
                ),
            ),
            # Without quotes, with other case, with spaces.
            (
                "bearer Realm=https://a/t , SERVICE = s",
                (bearer(realm="https://a/t", service="s"),),
            ),
            (
                r'Bearer realm="a\"b\\c"',
                (bearer(realm='a"b\\c'),),
            ),
            (
                'Negotiate, Bearer realm="r", Basic realm="b"',
                (
                    Challenge("negotiate"),
                    bearer(realm="r"),
                    Challenge("basic", {"realm": "b"}),
                ),
            ),
            (
                'Negotiate YWJj==, Basic realm="b"',
                (Challenge("negotiate"), Challenge("basic", {"realm": "b"})),
            ),
            # The first counts: what is appended changes nothing.
            ('Bearer realm="a",realm="b"', (bearer(realm="a"),)),
            ('Bearer realm="a', (bearer(realm="a"),)),
            ('=,;"', ()),
        ],
    )
    def test_read(self, header: str | None, expected: tuple[Challenge, ...]) -> None:
        """Every challenge is read, in every spelling that registries use."""
        assert parse(header) == expected

    @UNHURRIED
    @given(st.text(alphabet=' ,="\\abBearer/:.~+\n', max_size=200))
    def test_anything(self, text: str) -> None:
        """REG11: whatever stands there, the answer is a list of challenges."""
        for each in parse(text):
            assert each.scheme == each.scheme.lower()

    @UNHURRIED
    @given(
        st.dictionaries(
            st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
            st.text(st.characters(codec="latin-1", exclude_characters="\r\n")),
            max_size=8,
        )
    )
    def test_round_trip(self, parameters: dict[str, str]) -> None:
        """What is quoted by the rules is read as what it was."""
        quoted = (
            '{}="{}"'.format(key, value.replace("\\", "\\\\").replace('"', '\\"'))
            for key, value in parameters.items()
        )

        assert parse("Bearer " + ", ".join(quoted)) == (
            Challenge("bearer", parameters),
        )

    @pytest.mark.parametrize(
        "text",
        [
            "a" * 500_000,
            "Bearer " * 50_000,
            "Bearer a=" + "," * 500_000,
            'Bearer a="' + "\\" * 500_000,
            'Bearer a="' + 'x",b="' * 80_000,
            "Bearer " + "a=b," * 100_000,
            "Bearer " + "=" * 500_000,
        ],
    )
    def test_no_hang(self, text: str) -> None:
        """REG11: texts made to be slow are read within 100 ms."""
        began = time.thread_time()
        parse(text)

        assert time.thread_time() - began < 0.1


class TestChoose:
    def test_order(self) -> None:
        """A token is preferred to a password at every request."""
        challenges = parse('Basic realm="b", Negotiate, Bearer realm="r"')

        assert choose(challenges) == bearer(realm="r")

    def test_usable(self) -> None:
        """A bearer challenge that names no place for tokens cannot be answered."""
        assert choose(parse('Bearer service="s", Basic realm="b"')) == Challenge(
            "basic", {"realm": "b"}
        )
        assert choose(parse("Digest realm=x")) is None


class TestRealm:
    @pytest.mark.parametrize(
        "realm",
        [
            "https://registry.example/token",
            "https://registry.example:443/auth?x=y",
            "https://REGISTRY.example/token",
        ],
    )
    def test_own_host(self, realm: str) -> None:
        """A registry may have its tokens made where it is itself."""
        assert realm_of(bearer(realm=realm), REGISTRY, plain_http=False) == realm

    @pytest.mark.parametrize(
        "realm",
        [
            "",
            "token",
            "/token",
            "http://registry.example/token",
            "https://registry.example@evil.example/token",
            "https://user:password@registry.example/token",
            "https://evil.example/token",
            "https://registry.example:5001/token",
            "https://registry.example.evil.example/",
            "file:///etc/passwd",
            "https://127.0.0.1/token",
            "https://localhost/token",
            "https://169.254.169.254/latest",
            "https://[::1]/token",
        ],
    )
    def test_refused(self, realm: str) -> None:
        """REG4: no other host, no plain HTTP, no local address, no user name."""
        got = realm_of(bearer(realm=realm), REGISTRY, plain_http=False)

        assert isinstance(got, Refusal)

    def test_pairs(self) -> None:
        """The places of the large registries are known; others are named by callers."""
        hub = Origin("https", "registry-1.docker.io", 443)
        challenge = bearer(realm="https://auth.docker.io/token")
        other = bearer(realm="https://gitlab.example/jwt/auth")
        hosts = ["gitlab.example"]

        assert (
            realm_of(challenge, hub, plain_http=False) == challenge.parameters["realm"]
        )
        assert isinstance(realm_of(challenge, REGISTRY, plain_http=False), Refusal)
        got = realm_of(other, REGISTRY, plain_http=False, token_hosts=hosts)
        assert got == other.parameters["realm"]

    def test_ports(self) -> None:
        """REG2: another port is another place, until it was named."""
        challenge = bearer(realm="https://registry.example:5001/auth")
        for hosts in (["registry.example:5001"], ["registry.example"]):
            got = realm_of(challenge, REGISTRY, plain_http=False, token_hosts=hosts)
            assert got == challenge.parameters["realm"]
        hosts = ["registry.example:5002"]
        got = realm_of(challenge, REGISTRY, plain_http=False, token_hosts=hosts)
        assert isinstance(got, Refusal)

    def test_a_local_place_is_not_made_right_by_a_name(self) -> None:
        """REG4: a local address is refused though it was named."""
        challenge = bearer(realm="https://127.0.0.1/token")
        hosts = ["127.0.0.1"]
        got = realm_of(challenge, REGISTRY, plain_http=False, token_hosts=hosts)

        assert isinstance(got, Refusal)


class TestScopes:
    def test_merged(self) -> None:
        """Each resource is asked for once, with all that is wanted there."""
        merged = merge_scopes(
            ["repository:b:pull", "repository:a:push,pull"], ["repository:b:delete"]
        )

        assert merged == ("repository:a:pull,push", "repository:b:delete,pull")
        assert merge_scopes([]) == ()
        assert merge_scopes(["aws"]) == ("aws",)
