"""An index in Milvus answers as the embedded one does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from index import Store, backend
from tests.index.milvus.machine import Pair


def run(
    store: Store, milvus_store: backend.Store, folder: Path, of: settings, **more: object
) -> None:
    machine = type(
        "Machine",
        (Pair,),
        {"embedded": store, "milvus": milvus_store, "folder": folder, **more},
    )
    run_state_machine_as_test(machine, settings=of)


def test_some_calls_have_the_same_answers(
    store: Store, milvus_store: backend.Store, tmp_path: Path
) -> None:
    few = settings(
        max_examples=4,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run(store, milvus_store, tmp_path, few, remakes=False, lengths=[9])


@pytest.mark.slow
def test_many_calls_have_the_same_answers(
    store: Store, milvus_store: backend.Store, tmp_path: Path
) -> None:
    many = settings(
        max_examples=40,
        stateful_step_count=50,
        deadline=None,
        # Without shrinking, which makes collections again and again.
        phases=[Phase.generate],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run(store, milvus_store, tmp_path, many)
