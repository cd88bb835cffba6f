"""What a registry does that not every registry does: habits, and faults."""

from typing import Literal, TypeAlias

import attrs

__all__ = ["Habits", "Part"]

Part: TypeAlias = Literal["layer", "config", "manifest"]


@attrs.frozen(kw_only=True, repr=False)
class Habits:
    """
    How a registry behaves. The defaults are those of a good one.

    Attributes:
        strict_accept: A manifest is not found unless its type stands in ``Accept``.

        no_digest_header: No ``Docker-Content-Digest``.

        lower_headers: Names of headers in lower case.

        content_type: What manifests are called, whatever they are; ``""``: nothing.

        chunked: Bodies come in chunks, without a length.

        no_length: Bodies end with the connection, without a length.

        gzip: Documents are compressed on the way, without having been asked to.

        head_405: No HEAD.

        corrupt: One byte of such a part is another one.

        short: Such a part lacks its last bytes, and says so.

        cut: The connection ends before the last bytes of such a part, each time.

        long: Such a part has more bytes than it should.

        endless: Such a part has no end.

        wrong_manifest: Asked for a manifest by digest, it sends another one.

        wrong_digest_header: ``Docker-Content-Digest`` is that of something else.

        drop: How many downloads of layers break off in the middle.

        no_range: Ranges are ignored.

        wrong_range: Another range comes than was asked for.

        redirect: Blobs are elsewhere: this status leads to another origin, which
            refuses requests that carry credentials.

        redirect_relative: Blobs are at another path of the same origin.

        redirect_loop: Blobs are always elsewhere.

        redirect_to: Blobs are at this URL.

        auth: What is asked for: a user of `Registry.users`, by this scheme.

        public: Reading needs no user (but a token, where `auth` is ``bearer``).

        realm: Where tokens are, as the challenge says; the registry's own place if
            ``None``.

        token_key: How the answer with a token calls it.

        token_uses: For how many requests a token is good.

        token_lifetime: For how many seconds, as the answer says.

        token_post: Tokens are given to POST only.

        token_redirect: The place for tokens is elsewhere.

        two_challenges: It also offers a scheme that nobody knows, and basic.

        challenge_error: The challenge names an error and the scope that is missing;
            the first token is good for nothing.

        too_many: How many requests are answered by 429 before it works.

        retry_after: What such an answer says in ``Retry-After``; ``""``: nothing.

        unavailable: How many requests are answered by 503 before it works.

        failures: How many uploads are answered by 500 when all bytes have come.

        upload_drop: How many uploads break off before an answer.

        location_relative: ``Location`` is a path.

        location_query: ``Location`` has a query, which must come back.

        location_uuid: No ``Location``, but ``Docker-Upload-UUID``.

        location_to: ``Location`` leads to this origin.

        monolithic: A blob may come with the POST that begins an upload.

        single_post: It may come in no other way.

        in_parts: A blob may come in parts only.

        chunk_min: The smallest part but for the last, in bytes.

        chunk_max: The largest part, in bytes.

        no_mount: Mounting is answered by an ordinary upload.

        page: How many tags are on a page.

        link_absolute: ``Link`` names the registry by another host.

        null_tags: Without tags, the list of tags is ``null``.

        drip: Seconds between two bytes of a layer.

        headers: Headers that come without end: ``endless``; or one a second: ``drip``.

        says: What errors say; ``{authorization}`` is what was sent.
    """

    strict_accept: bool = False
    no_digest_header: bool = False
    lower_headers: bool = False
    content_type: str | None = None
    chunked: bool = False
    no_length: bool = False
    gzip: bool = False
    head_405: bool = False
    corrupt: Part | None = None
    short: Part | None = None
    cut: Part | None = None
    long: Part | None = None
    endless: Part | None = None
    wrong_manifest: bool = False
    wrong_digest_header: bool = False
    drop: int = 0
    no_range: bool = False
    wrong_range: bool = False
    redirect: int | None = None
    redirect_relative: bool = False
    redirect_loop: bool = False
    redirect_to: str | None = None
    auth: Literal["basic", "bearer"] | None = None
    public: bool = False
    realm: str | None = None
    token_key: str = "token"  # noqa: S105  (a name of a field)
    token_uses: int | None = None
    token_lifetime: float | None = None
    token_post: bool = False
    token_redirect: bool = False
    two_challenges: bool = False
    challenge_error: bool = False
    too_many: int = 0
    retry_after: str = "0"
    unavailable: int = 0
    failures: int = 0
    upload_drop: int = 0
    location_relative: bool = True
    location_query: bool = False
    location_uuid: bool = False
    location_to: str | None = None
    monolithic: bool = False
    single_post: bool = False
    in_parts: bool = False
    chunk_min: int = 0
    chunk_max: int | None = None
    no_mount: bool = False
    page: int | None = None
    link_absolute: bool = False
    null_tags: bool = False
    drip: float = 0.0
    headers: Literal["endless", "drip"] | None = None
    says: str | None = None

    def __repr__(self) -> str:
        # What is usual goes without saying.
        said = (
            f"{each.name}={value!r}"
            for each in attrs.fields(Habits)
            if (value := getattr(self, each.name)) != each.default
        )
        return f"Habits({', '.join(said)})"
