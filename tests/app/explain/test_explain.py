"""Explanations of small datasets: what they say, and what they ask for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from app.datasets.dataset import Dataset
from app.explain import run
from app.explain.data import Data, Encoder
from app.explain.finding import Plot, Series
from app.explain.gain import measure_gain
from app.explain.laws import LAWS
from app.explain.plots import draw
from app.explain.render import render
from app.explain.run import Explanation, explain
from hashing import InvalidInput, make_hasher

NEED_LABELS = {"labels", "training"}


def dataset(n: int = 400, labels: NDArray[np.int64] | None = None, name: str = "made") -> Dataset:
    """Four Gaussian clusters; by default their numbers are the labels."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 4
    X = 2 * np.eye(4, 12)[y] + 0.5 * rng.standard_normal((n, 12))
    ids = np.array([f"i{i}" for i in range(n)])
    return Dataset(name, X.astype(np.float32), y if labels is None else labels, ids)


def several_labels() -> Dataset:
    """The same items, of which each has two labels."""
    made = dataset()
    sets = np.eye(4, dtype=bool)[made.labels] | np.eye(4, dtype=bool)[(made.labels + 1) % 4]
    return replace(made, labels=np.full(len(made), -1), label_sets=sets)


def ignore(done: int, total: int, now: str) -> None:
    pass


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explain(dataset(name="<b>made</b>"), ignore)


def test_items_with_several_labels_are_not_called_unlabelled() -> None:
    (training,) = explain(several_labels(), ignore, laws=["training"]).findings
    assert training.problem is not None
    assert "needs one label for each item, and items have several" in training.problem
    with pytest.raises(InvalidInput, match="items have several labels each, and one each is"):
        Data(several_labels(), 400, 0).mean_average_precision(make_hasher("lsh", n_bits=8))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0])
def test_a_seed_is_an_integer_that_is_not_negative(seed: Any) -> None:
    with pytest.raises(InvalidInput, match=r"seed must be .*, got"):
        explain(dataset(), ignore, laws=["width"], seed=seed)


def test_an_interrupted_explanation_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(data: Data) -> None:
        raise KeyboardInterrupt

    measured = [(law, interrupt if law.key == "calibration" else one) for law, one in run._MEASURED]
    monkeypatch.setattr(run, "_MEASURED", tuple(measured))
    found = explain(dataset(), ignore, laws=["width", "calibration", "angles"])
    assert found.interrupted
    assert [finding.problem for finding in found.findings] == [None, "interrupted", "interrupted"]
    assert "interrupted" in render(found)
    with pytest.raises(KeyboardInterrupt):
        explain(dataset(), ignore, laws=["calibration", "angles"])

    def interrupt_between(done: int, of: int, what: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    found = explain(dataset(), interrupt_between, laws=["width", "angles"])
    assert [finding.problem for finding in found.findings] == [None, "interrupted"]


def test_every_law_is_measured_with_figures_and_a_plot(explanation: Explanation) -> None:
    assert [finding.law.key for finding in explanation.findings] == list(LAWS)
    for finding in explanation.findings:
        assert finding.problem is None
        assert finding.answer.endswith(".")
        assert finding.figures
        assert finding.plots
        assert finding.law.limit
        assert finding.law.source
    assert explanation.trained == "sdh"


def test_bits_to_discriminate_and_bits_to_reconstruct_are_on_one_plot(
    explanation: Explanation,
) -> None:
    (found,) = (each for each in explanation.findings if each.law.key == "compression")
    (plot,) = found.plots
    classes, neighbours, by_rabitq, variance = plot.series
    assert "mAP" in classes.name
    assert "inversion error" in variance.name
    at_16 = [dict(series.points)[16.0] for series in plot.series]
    # Telling four clusters apart takes the fewest bits; estimates find more than Hamming distance.
    assert at_16[0] == max(at_16)
    assert at_16[2] > at_16[1]
    assert [len(series.bars) for series in (neighbours, by_rabitq, variance)] == [6, 6, 6]


def test_the_page_holds_every_law_and_escapes_names(explanation: Explanation) -> None:
    page = render(explanation)
    assert "<b>made</b>" not in page
    assert "&lt;b&gt;made&lt;/b&gt;" in page
    for finding in explanation.findings:
        assert f'<section id="{finding.law.key}">' in page
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == sum(len(finding.plots) for finding in explanation.findings)
    for picture in pictures:
        ElementTree.fromstring(picture)
        assert "nan" not in picture
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_result_is_json_without_nan(explanation: Explanation) -> None:
    text = json.dumps(explanation.as_json(), allow_nan=False)
    assert json.loads(text)["dataset"] == {
        "name": "<b>made</b>",
        "items": 400,
        "sampled": 400,
        "dimension": 12,
    }


def test_the_same_seed_gives_the_same_explanation() -> None:
    first, second = (
        explain(dataset(), ignore, laws=["width", "calibration"], n_items=200) for _ in range(2)
    )
    assert first == second
    assert first.n_sampled == 200


def test_without_labels_the_laws_that_need_them_say_so() -> None:
    laws = ["compression", "labels", "training", "privacy", "calibration"]
    found = explain(dataset(labels=np.full(400, -1)), ignore, laws=laws)
    problems = {each.law.key: each.problem for each in found.findings if each.problem}
    assert set(problems) == NEED_LABELS
    assert all("needs labels: no item has one" in problem for problem in problems.values())
    assert found.trained is None
    assert "Not measured: " in render(found)


def test_one_class_is_not_enough_for_the_laws_of_labels() -> None:
    one = explain(dataset(labels=np.zeros(400, np.int64)), ignore, laws=["training", "labels"])
    for each in one.findings:
        assert each.problem is not None
        assert "What" not in each.problem
        assert "at least two classes" in each.problem


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dataset(49), "at least 50 descriptors, got 49"),
        (
            Dataset(
                "same", np.ones((80, 3), np.float32), np.zeros(80, np.int64), np.array(["i"] * 80)
            ),
            "at least 50 descriptors that differ from their mean: 0 do",
        ),
    ],
)
def test_what_is_needed_is_said(data: Dataset, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        explain(data, ignore)


def test_a_given_encoder_is_compared() -> None:
    data = dataset()
    hasher = make_hasher("itq", n_bits=8).fit(data.descriptors)
    found = explain(data, ignore, laws=["training", "privacy"], encoder=Encoder("mine", hasher))
    assert found.trained == "mine"
    assert "mine" in found.findings[0].answer
    other = make_hasher("itq", n_bits=2).fit(np.eye(3))
    with pytest.raises(InvalidInput, match="dimension 3, the dataset has 12"):
        explain(data, ignore, encoder=Encoder("mine", other))


def test_an_unknown_law_is_named_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="no law 'widht'; there are width, embedding"):
        explain(dataset(), ignore, laws=["widht"])


@pytest.mark.parametrize("log", [True, False])
def test_a_plot_has_a_place_for_every_point(log: bool) -> None:
    series = Series("a & b", [(1.0, 0.1), (10.0, 1.0), (100.0, 20.0)], [(0.05, 0.2)] * 3)
    picture = ElementTree.fromstring(draw(Plot("c", "x", "y", [series], log_x=log, log_y=log)))
    lines = picture.findall(".//{*}polyline")
    numbers = [float(each) for each in re.findall(r"[\d.]+", lines[0].attrib["points"])]
    assert len(numbers) == 6
    assert numbers[0::2] == sorted(numbers[0::2])
    assert numbers[1::2] == sorted(numbers[1::2], reverse=True)
    assert all(24 <= y <= 284 for y in numbers[1::2])


def test_the_gain_of_chosen_labels_is_measured() -> None:
    gain = measure_gain(dataset(), 8, n_bits=8, seeds=(0, 1))
    assert (gain.n_before, gain.n_new) == (8, 8)
    assert gain.difference.value == pytest.approx(gain.chosen.value - gain.random.value)
    assert 0.3 < gain.random.value <= 1
    with pytest.raises(InvalidInput, match="needs labels: no item has one"):
        measure_gain(dataset(labels=np.full(400, -1)), 8)
    with pytest.raises(InvalidInput, match="at least 50 labelled items, got 40"):
        measure_gain(dataset(40), 8)
    with pytest.raises(InvalidInput, match="at least two classes"):
        measure_gain(dataset(labels=np.zeros(400, np.int64)), 8)


def test_equal_descriptors_are_no_reason_to_fail() -> None:
    plain = dataset(80)
    X = np.repeat(plain.descriptors, 4, axis=0)
    ids = np.array([f"i{i}" for i in range(320)])
    found = explain(Dataset("twins", X, np.repeat(plain.labels, 4), ids), ignore, laws=["angles"])
    assert [finding.problem for finding in found.findings] == [None]


def test_the_width_is_reported_where_the_local_dimension_cannot_be() -> None:
    """All descriptors have a twin: there is no nearest neighbour that differs."""
    plain = dataset(60)
    X = np.repeat(plain.descriptors, 2, axis=0)
    ids = np.array([f"i{i}" for i in range(120)])
    data = Dataset("twins", X, np.repeat(plain.labels, 2), ids)
    (found,) = explain(data, ignore, laws=["width"]).findings
    assert found.problem is None
    assert "at least 10 descriptors that differ from all others, got 0" in found.answer
    names = [figure.name for figure in found.figures]
    assert "dimension (ω/2)²" in names
    assert not [name for name in names if name.startswith("local")]


def test_the_measurement_of_a_gain_tells_its_progress() -> None:
    seen: list[tuple[int, int]] = []
    measure_gain(dataset(), 8, n_bits=8, seeds=(0, 1), progress=lambda *now: seen.append(now[:2]))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_bits_to_reconstruct_are_reported_where_classes_cannot_be_told_apart() -> None:
    """Each item is a class of its own: no query has a relevant item."""
    (found,) = explain(dataset(80, np.arange(80)), ignore, laws=["compression"]).findings
    assert found.problem is None
    assert len(found.plots[0].series) == 3
    assert "The mAP is unknown: no query has another item of its class." in found.answer


def test_items_without_a_label_do_not_lower_the_map_of_descriptors() -> None:
    complete = dataset()
    known = np.random.default_rng(0).random(400) < 0.5
    partly = dataset(labels=np.where(known, complete.labels, -1))
    maps = [Data(one, 400, 0).raw_map for one in (complete, partly)]
    assert maps[1] == pytest.approx(maps[0], abs=0.05)
