"""Documents of images, against the schemas of the OCI specification."""

from typing import Any

import pytest

from jailbox.errors import Malformed, UnsupportedMediaType
from jailbox.spec.descriptor import Descriptor
from jailbox.spec.digest import Digest
from jailbox.spec.document import ImageDocument, Index, Manifest, layout_version

READERS = {
    "manifest": Manifest.from_bytes,
    "index": Index.from_bytes,
    "config": ImageDocument.from_bytes,
    "descriptor": Descriptor.from_bytes,
    "layout": layout_version,
}


@pytest.mark.collection("image-spec")
def test_document(case: dict[str, Any]) -> None:
    """A document is read or refused as its schema says, and its bytes are kept."""
    expected = case["expect"]
    data = case["document"].encode("utf-8", "surrogateescape")
    reader: Any = READERS[case["kind"]]
    if "digest_of_input" in expected:
        assert str(Digest.of(data)) == expected["digest_of_input"]
    if not expected["valid"]:
        with pytest.raises((Malformed, UnsupportedMediaType)):
            reader(data)
        return
    value = reader(data)
    if hasattr(value, "to_bytes"):
        # Nothing is lost on the way: what is written is read as the same.
        assert reader(value.to_bytes()) == value
