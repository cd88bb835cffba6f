"""Networks: none or the host's."""

import pickle
from typing import Any, TypeAlias

import pytest

from jailbox.errors import SpecError, SpecTypeError
from jailbox.spec.network import Network

# What the types forbid and people pass nevertheless.
Wrong: TypeAlias = Any


class TestNetwork:
    """Whom a jail may talk to."""

    def test_default(self) -> None:
        """Nobody, unless asked for."""
        assert Network() == Network.of("none")
        assert Network().private

    def test_host(self) -> None:
        """The host's network is not private."""
        assert not Network.of("host").private

    def test_value(self) -> None:
        """A network is a value, and taken as it is."""
        host = Network("host")

        assert Network.of(host) is host
        assert pickle.loads(pickle.dumps(host)) == host  # noqa: S301

    @pytest.mark.parametrize("mode", ["", "bridge", "NONE", "none "])
    def test_unknown(self, mode: Wrong) -> None:
        """Any other word is refused."""
        with pytest.raises(SpecError) as caught:
            Network.of(mode)
        assert str(caught.value) == (
            f"network={mode!r} is not known (accepted: 'none' or 'host')"
        )

    @pytest.mark.parametrize("mode", [None, True, 0, b"none"])
    def test_wrong_type(self, mode: Wrong) -> None:
        """What is no text is a TypeError."""
        with pytest.raises(SpecTypeError, match=r"^network="):
            Network.of(mode)
