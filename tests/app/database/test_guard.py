"""The lock that keeps unlike services from sharing a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import insert, literal, select, text

from app.database.shared import SharedState
from app.database.tables import demo
from app.service.settings import Settings
from app.service.state import opening
from index import Unavailable, Unreadable
from tests.postgres import Server

Open = Callable[[ExitStack], SharedState]


@pytest.fixture
def open_alone(tmp_path: Path, postgres: Server) -> Open:
    """Open a database as a service with an embedded index does, which is alone with it."""
    url = SecretStr(postgres.new_database())
    settings = Settings(data_dir=tmp_path, demo=False, database_url=url)
    return lambda stack: opening._open_held(settings, stack, alone=True)


@pytest.fixture
def first(open_alone: Open) -> Iterator[SharedState]:
    with ExitStack() as stack:
        yield open_alone(stack)


def end_connections(state: SharedState) -> None:
    """End all connections of a database, as a server does that is started again."""
    sessions = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname"
    with state.engine.connect() as connection:
        connection.execute(
            text(f"SELECT pg_terminate_backend(pid, 5000) {sessions} = current_database()")
        )


def write(state: SharedState) -> None:
    if state.guard is not None:
        state.guard._next_check = 0.0
    with state.writing() as execute:
        execute(insert(demo).values(state="done"))


def test_a_service_takes_its_lock_again_before_another_one_can(
    first: SharedState, open_alone: Open
) -> None:
    end_connections(first)
    write(first)
    with ExitStack() as stack, pytest.raises(Unreadable, match="in use by another process"):
        open_alone(stack)
    write(first)


def test_a_service_whose_lock_another_one_has_taken_refuses_to_work(
    first: SharedState, open_alone: Open
) -> None:
    end_connections(first)
    with ExitStack() as stack:
        second = open_alone(stack)
        for _ in range(2):
            with pytest.raises(Unavailable, match="works again when that one has stopped"):
                write(first)
        with pytest.raises(Unavailable, match="another process uses the database"):
            first.read(select(literal(1)))
        with pytest.raises(Unavailable, match="another process"), first.locked("x"):
            pass
        write(second)
        assert first.is_reached
    write(first)
    assert len(first.read(select(demo))) == 2


def test_a_connection_that_only_the_server_still_has_is_no_other_process(
    first: SharedState,
) -> None:
    assert first.guard is not None
    lost, first.guard._connection = first.guard._connection, None
    assert lost is not None
    write(first)
    lost.invalidate()
    lost.close()
