"""API keys of replicas that share a database."""

from __future__ import annotations

import builtins
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from sqlalchemy import delete, insert, select, update

from app.database.state import Execute, State
from app.database.tables import keys, keys_required
from app.service.keys import Key, hash_of, new_key

# The value of `keys_required.since` where keys are required and none has been created yet.
_NONE_CREATED = 0.0
_KEY = (keys.c.id, keys.c.name, keys.c.scope, keys.c.created)


class KeyStore(Protocol):
    """The keys of a service: `app.service.keys.Keys` in a file, or `SharedKeys`.

    `Keys` documents the methods. Once a key has been created, keys are required for ever.

    Attributes
    ----------
    waits : bool
        Whether `find`, `any` and `required` may wait for a server, so that they must be called in
        a thread.
    """

    waits: bool

    def create(self, name: str, scope: str) -> tuple[Key, str]:
        """Create a key; return it and its secret."""

    def list(self) -> builtins.list[Key]:
        """Return all keys, oldest first."""

    def revoke(self, key: str) -> None:
        """Revoke the key with this id; raise ValueError if there is none."""

    def find(self, secret: str) -> Key | None:
        """Return the key with this secret, or None."""

    def any(self) -> bool:
        """Return whether there are any keys."""

    @property
    def required(self) -> bool:
        """Whether a key was ever created, so that requests need one from then on."""

    @property
    def was_required(self) -> bool:
        """What `required` was when it was last asked, without waiting."""

    def prepare(self) -> None:
        """Do what can be done at start for a time when the disk is full."""

    def close(self) -> None:
        """Close what is open."""


class SharedKeys:
    """Keys in a shared database. Thread-safe.

    Each request asks the database, by an index, so that all replicas refuse a key as soon as it is
    revoked. All methods raise Unavailable if the database cannot be reached.

    Parameters
    ----------
    state : State
    required_here : bool
        Whether a key was created in the data directory, before there was a shared database.
    """

    waits = True

    def __init__(self, state: State, *, required_here: bool) -> None:
        self._state = state
        self.was_required = required_here

    def create(self, name: str, scope: str) -> tuple[Key, str]:
        """Create a key; return it and its secret, which is not stored and cannot be shown again."""
        key, secret = new_key(name, scope)
        row = {"id": key.id, "name": key.name, "scope": key.scope, "created": key.created}
        with self._state.writing("keys") as execute:
            _note_created(execute)
            execute(insert(keys).values(**row, hash=hash_of(secret)))
        self.was_required = True
        return key, secret

    def require(self) -> None:
        """Require keys from now on, though none has been created here."""
        with self._state.writing("keys") as execute:
            if not execute(select(keys_required)).fetchall():
                execute(insert(keys_required).values(since=_NONE_CREATED))
        self.was_required = True

    def adopt(self, hashes: Mapping[bytes, Key]) -> bool:
        """Add keys by the hashes of their secrets, and require keys from now on.

        Return False, and add none, if keys were created or added here before: those that were
        revoked since must not become valid again.
        """
        with self._state.writing("keys") as execute:
            rows = execute(select(keys_required)).fetchall()
            is_first = all(row.since == _NONE_CREATED for row in rows)
            if is_first:
                _note_created(execute)
                for digest, key in hashes.items():
                    execute(insert(keys).values(**asdict(key), hash=digest))
        self.was_required = True
        return is_first

    def list(self) -> builtins.list[Key]:
        """Return all keys, oldest first."""
        return [Key(*row) for row in self._state.read(select(*_KEY).order_by(keys.c.created))]

    def revoke(self, key: str) -> None:
        """Revoke the key with this id; raise ValueError if there is none."""
        with self._state.writing() as execute:
            if not execute(delete(keys).where(keys.c.id == key)).rowcount:
                raise ValueError(f"there is no key {key!r:.50}")

    def find(self, secret: str) -> Key | None:
        """Return the key with this secret, or None."""
        rows = self._state.read(select(*_KEY).where(keys.c.hash == hash_of(secret)))
        return Key(*rows[0]) if rows else None

    def any(self) -> bool:
        """Return whether there are any keys."""
        return bool(self._state.read(select(keys.c.id).limit(1)))

    @property
    def required(self) -> bool:
        """Whether a key was ever created, so that requests need one from then on."""
        if not self.was_required:
            self.was_required = bool(self._state.read(select(keys_required)))
        return self.was_required

    def prepare(self) -> None:
        """Do nothing: the database has its own room."""

    def close(self) -> None:
        """Do nothing: the database is closed by those who opened it."""


def _note_created(execute: Execute) -> None:
    """Require keys from now on, because some are created."""
    if not execute(select(keys_required)).fetchall():
        execute(insert(keys_required).values(since=time.time()))
    is_none = keys_required.c.since == _NONE_CREATED
    execute(update(keys_required).where(is_none).values(since=time.time()))
