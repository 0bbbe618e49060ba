"""Where the bytes of versions are kept: by their digest, so that they can neither change nor collide.

A digest is the only name there is, and it is checked before it becomes a path: no string of a caller ever does.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore, ObjectStore

from registry.errors import ArtifactDamaged, ArtifactMissing

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(artifact: bytes) -> str:
    """The name of these bytes: `sha256:` and 64 lower-case hexadecimal digits."""
    return "sha256:" + hashlib.sha256(artifact).hexdigest()


class ArtifactStore:
    """A content-addressed store of immutable bytes, in a folder or in a bucket.

    Two processes may put the same bytes at once: one creates, the other finds them there.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, at: Path | str) -> ArtifactStore:
        """The store in a local folder, which is made where it is missing, or in the bucket of a URL.

        `s3://…`, `gs://…`, `az://…`: credentials are those of the environment.
        """
        if isinstance(at, str):
            return cls(obstore.store.from_url(at))
        at.mkdir(parents=True, exist_ok=True)
        return cls(LocalStore(at), at)

    def put(self, artifact: bytes) -> str:
        """Keep `artifact`; returns its digest. Durable on return; the same bytes again change nothing.

        Bytes that are there already but damaged (a disk that lost power half way) are replaced: registering
        the same file again repairs it.
        """
        digest = digest_of(artifact)
        path = _path(digest)
        try:
            obstore.put(self._store, path, artifact, mode="create")
        except AlreadyExistsError:
            if digest_of(self._read(path)) == digest:
                return digest
            obstore.put(self._store, path, artifact, mode="overwrite")
        self._flush(path)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of that digest, hashed again on every read.

        Raises:
            ArtifactMissing: nothing has that digest, or it is not a digest.
            ArtifactDamaged: what is stored hashes to something else.
        """
        if not _DIGEST.fullmatch(digest):
            raise ArtifactMissing(digest)
        try:
            artifact = self._read(_path(digest))
        except FileNotFoundError:
            raise ArtifactMissing(digest) from None
        found = digest_of(artifact)
        if found != digest:
            raise ArtifactDamaged(digest, found)
        return artifact

    def _read(self, path: str) -> bytes:
        return bytes(obstore.get(self._store, path).bytes())

    def _flush(self, path: str) -> None:
        # object stores are durable when they answer; the local one renames a complete file into place, but leaves
        # it to the caller to have file and folders on the disk before anything refers to them
        if self._folder is None:
            return
        whole = self._folder / path
        for place in (whole, whole.parent, whole.parent.parent, self._folder):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _path(digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    return f"{algorithm}/{name[:2]}/{name}"
