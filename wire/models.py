"""A neural network as a center keeps it and a worker is told of it: the body of an item `Model`.

Here: its document, the parts in which its file travels, limits. Not here: what a manifest says
(manifest), storing and fetching files (center, edge).

A file is named by its SHA-256 and never changes; another file, or another manifest for it, is
another revision of the model.
"""

import re
from typing import Annotated, Self

import msgspec
from pydantic import AfterValidator, Field, ValidationError, model_validator

from wire.manifest import MAX_MODEL_BYTES, NO_PICTURE, PICTURE_INLINE, Manifest
from wire.specs import Problem, SpecError, problems_of

KIND = "Model"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
PART_BYTES = 1024 * 1024
"""Of a part of a file; the last one may be smaller."""
MAX_PARTS = MAX_MODEL_BYTES // PART_BYTES
MAX_DOCUMENT_BYTES = 192 * 1024
"""Of a model's document; a worker gets it in one message."""
MAX_TEXT = 1000


def _sha256(value: str) -> str:
    if not re.fullmatch(SHA256_PATTERN, value):
        raise ValueError("write 64 hexadecimal digits in lower case")
    return value


def _short(value: str) -> str:
    if len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"write at most {MAX_TEXT} printable characters")
    return value


Sha256 = Annotated[
    str, AfterValidator(_sha256), Field(json_schema_extra={"pattern": SHA256_PATTERN})
]
Text = Annotated[str, AfterValidator(_short)]


class Published(Manifest):
    """A manifest whose file is known: what a center publishes, and a worker fetches."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(strict=True, ge=1, le=MAX_MODEL_BYTES)]
    version: Text = ""
    license: Text = ""
    source: Text = ""
    url: Text = ""

    @model_validator(mode="after")
    def _travels_alone(self) -> Self:
        picture = self.check.picture
        if picture not in ("", NO_PICTURE) and not picture.startswith(PICTURE_INLINE):
            raise ValueError(
                f"check.picture: the file {picture} is not there where the model goes; "
                f"`forecourt models push` writes its content instead ({PICTURE_INLINE}...)"
            )
        return self

    @property
    def parts(self) -> int:
        """How many parts its file has."""
        return -(-self.size_bytes // PART_BYTES)


def canonical(model: Published) -> bytes:
    """The document's bytes, the same for the same model. Raises SpecError if it is too large."""
    document = model.model_dump(mode="json", exclude_defaults=True)
    body = msgspec.json.encode(document, order="deterministic")
    if len(body) > MAX_DOCUMENT_BYTES:
        raise SpecError(
            [Problem((), f"the manifest takes {len(body)} bytes, at most {MAX_DOCUMENT_BYTES} may "
                     "be sent; take a smaller picture for [check], or fewer labels")]
        )  # fmt: skip
    return body


def parse(body: bytes) -> Published:
    """The model in a document. Raises SpecError with every problem."""
    if len(body) > MAX_DOCUMENT_BYTES:
        raise SpecError([Problem((), f"a model's document above {MAX_DOCUMENT_BYTES} bytes")])
    try:
        return Published.model_validate(msgspec.json.decode(body))
    except msgspec.DecodeError as error:
        raise SpecError([Problem((), f"unreadable: {error}")]) from None
    except ValidationError as error:
        raise SpecError(problems_of(error)) from None
