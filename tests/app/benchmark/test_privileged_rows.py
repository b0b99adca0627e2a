"""Rows of nets that are taught by descriptors alone, and by privileged features too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.benchmark import measure as measuring
from app.benchmark.measure import Task, measure
from app.benchmark.rows import Row, rows
from app.benchmark.splits import Protocol, split
from app.datasets.dataset import Dataset
from hashing import InvalidInput, make_hasher
from hashing.nets.teacher import Teacher
from tests.methods import quick


@pytest.fixture
def task(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A small task, of a dataset with privileged features, on which nets are trained shortly."""

    def make(method: str, **params: Any) -> Any:
        return make_hasher(method, **quick(method) | params)

    monkeypatch.setattr(measuring, "make_hasher", make)
    small = Dataset(
        "small",
        digits.descriptors[:300, ::6],
        digits.labels[:300],
        digits.ids[:300],
        privileged=np.eye(10, dtype=np.float16)[digits.labels[:300]],
        privileged_mirror=np.arange(10),
    )
    return Task(small, split(small.labels, Protocol(queries_per_class=5, labels_per_class=5), 0), 0)


def test_the_names_of_rows() -> None:
    plain, privileged = rows(["net-2", "net-2+privileged"], [16])
    assert (plain.hasher, plain.privileged) == ("net-2", False)
    assert (privileged.hasher, privileged.privileged) == ("net-2", True)
    assert str(privileged) == "net-2+privileged, 16 bits"
    with pytest.raises(InvalidInput, match=r"no method 'ksh\+privileged'"):
        rows(["ksh+privileged"], [16])


def test_lengths_and_methods_share_a_teacher_and_kinds_of_rows_do_not(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    fit = Teacher.fit

    def counted(self: Any, X: Any, y: Any, privileged: Any = None) -> Any:
        seen.append(privileged is not None)
        return fit(self, X, y, privileged)

    monkeypatch.setattr(Teacher, "fit", counted)
    measured = {
        (method, n_bits): measure(Row(method, n_bits), task)
        for method in ("net-2", "net-2+privileged", "net-1+privileged")
        for n_bits in (8, 16)
    }
    assert seen == [False, True]
    first, second = (measured["net-2+privileged", n].figures["fit_seconds"] for n in (8, 16))
    teacher = next(teacher for privileged, teacher in task._teachers if privileged)
    assert first is not None
    assert second is not None
    assert min(first, second) > teacher.seconds_


def test_privileged_features_of_the_dataset_are_needed(task: Task) -> None:
    task.dataset = replace(task.dataset, privileged=None)
    with pytest.raises(InvalidInput, match="needs privileged features, which small lacks"):
        measure(Row("net-1+privileged", 8), task)
