"""
A blob on its way here: piece by piece, taken up again where it broke off.

Not for checking digests: whoever keeps the bytes does that (`verified` for those who do
not). The number of bytes is checked here, before one too many is passed on.
"""

from collections.abc import Generator, Iterable, Iterator

from jailbox.errors import DigestMismatch
from jailbox.registry import retry
from jailbox.registry.address import content_range
from jailbox.registry.http import Headers, Reply, Request, Trouble
from jailbox.registry.repository import OK, PARTIAL, Repository
from jailbox.spec.descriptor import Descriptor

__all__ = ["Download", "verified"]

NO_SUCH_RANGE = 416

# So much progress makes an attempt count as a new first one: a large blob over a bad
# line gets through, and a registry that always breaks off does not keep us for ever.
_PROGRESS = 1 << 20
_PROGRESS_SHARE = 20


class Download:
    """
    One blob, once.

    Attributes:
        done: How many bytes were passed on.

        resumed: It broke off at least once. Then a wrong digest may be the fault of
            the seam, and it is worth beginning anew.
    """

    def __init__(self, repository: Repository, blob: Descriptor) -> None:
        self._repository = repository
        self._blob = blob
        self._ranges = True
        self.done = 0
        self.resumed = False

    def pieces(self) -> Generator[bytes, None, None]:
        """
        Yield the bytes, all of them or an error.

        Raises:
            DigestMismatch: If there are more or fewer than the descriptor says.

            RegistryError: If they cannot be had.
        """
        exchange = self._repository.exchange
        attempt, mark = 0, 0
        step = max(_PROGRESS, self._blob.size // _PROGRESS_SHARE)
        while True:
            attempt += 1
            request = self._request()
            outcome: Reply | Trouble = exchange.once(request, self._repository.pulling)
            if isinstance(outcome, Reply) and outcome.status in {OK, PARTIAL}:
                with outcome:
                    trouble = yield from self._take(outcome)
                if trouble is None:
                    return
                outcome = trouble
            elif isinstance(outcome, Reply):
                if outcome.status == NO_SUCH_RANGE and self.done:
                    self._ranges = False
                    outcome.drop()
                    outcome = Trouble("broken", "the registry has no such range")
                elif outcome.status not in retry.RETRIED:
                    raise exchange.refusal(request, outcome, self._what)
            exchange.wire.call.check()
            if self.done - mark >= step:
                attempt, mark = 1, self.done
            self.resumed = self.resumed or self.done > 0
            exchange.wait_after(request, outcome, attempt, self._what)

    @property
    def _what(self) -> str:
        return f"blob {self._blob.digest}"

    def _request(self) -> Request:
        headers: Headers = {"Accept": "*/*"}
        if self.done and self._ranges:
            headers = {**headers, "Range": f"bytes={self.done}-"}
        url = self._repository.place.url(f"blobs/{self._blob.digest}")
        return Request(method="GET", url=url, headers=headers)

    def _take(self, reply: Reply) -> Generator[bytes, None, Trouble | None]:
        """Pass on what an answer brings; return why it is not all."""
        size = self._blob.size
        begins = self._begins(reply)
        if begins is None:
            self._ranges = False
            return Trouble("broken", "the registry sent another range than asked for")
        encoded = reply.headers.get("content-encoding", "identity") != "identity"
        # Some compress on the way, and some call a compressed layer by what it is.
        decode = encoded and reply.length != size - begins
        if not decode and reply.length is not None and reply.length != size - begins:
            raise self._mismatch(begins + reply.length)
        position = begins
        for piece in reply.pieces(decode=decode):
            if isinstance(piece, Trouble):
                # All was there, and the line broke after it.
                return None if self.done == size else piece
            if position + len(piece) > size:
                raise self._mismatch(None)
            # Without ranges the beginning comes again.
            new = piece[max(0, self.done - position) :]
            position += len(piece)
            if new:
                self.done += len(new)
                yield new
        if self.done == size:
            return None
        if reply.length is not None and not decode:
            # As many as it had promised, so they are not on their way.
            raise self._mismatch(self.done)
        return Trouble("broken", f"it ended after {self.done} of {size} bytes")

    def _begins(self, reply: Reply) -> int | None:
        """Return where the bytes of an answer begin; ``None`` if they are of no use."""
        if reply.status == OK:
            return 0
        found = content_range(reply.headers.get("content-range"))
        if found is None:
            return None
        first, last, total = found
        size = self._blob.size
        fits = first == self.done and last == size - 1 and total in {size, None}
        return first if fits else None

    def _mismatch(self, actual: int | None) -> DigestMismatch:
        place = self._repository.place
        return DigestMismatch(
            f"{self._blob.size} bytes",
            "more" if actual is None else f"{actual} bytes",
            f"blob {self._blob.digest} of {place.origin}/{place.repository}",
        )


def verified(pieces: Iterable[bytes], blob: Descriptor, origin: str) -> Iterator[bytes]:
    """
    Pass bytes on and check their digest at the end.

    Raises:
        DigestMismatch: After the last piece, if they are not what they should be.
    """
    hasher = blob.digest.hasher()
    for piece in pieces:
        hasher.update(piece)
        yield piece
    if (actual := hasher.hexdigest()) != blob.digest.hex:
        expected = f"{blob.digest.algorithm}:{actual}"
        raise DigestMismatch(str(blob.digest), expected, origin)
