"""Models for tests: files that need not be networks, their manifests, and pushing them."""

import hashlib
from typing import Any

import httpx

from wire.models import PART_BYTES, Published

FILE = bytes(range(256)) * (2 * PART_BYTES // 256) + b"the rest"
"""Two parts and a bit."""


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(content: bytes = FILE, name: str = "nano", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "file": f"{name}.onnx",
        "labels": ["person"],
        "version": "1",
        "sha256": sha256_of(content),
        "size_bytes": len(content),
        **changes,
    }


def published(content: bytes = FILE, **changes: Any) -> Published:
    return Published.model_validate(manifest(content, **changes))


def parts(content: bytes) -> list[bytes]:
    return [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]


def push(client: httpx.Client, content: bytes = FILE, **changes: Any) -> httpx.Response:
    """Push the file's parts, then its manifest; the last answer."""
    sha256 = sha256_of(content)
    for number, part in enumerate(parts(content)):
        path = f"/api/v1/models/{sha256}/file/parts/{number}"
        answer = client.put(path, content=part)
        assert answer.status_code == 200, answer.text
    document = manifest(content, **changes)
    return client.put(f"/api/v1/models/{document['name']}", json=document)
