"""The README's commands work as they are written, in its order, against one service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.http.test_serving import Process

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def type_all(blocks: list[str], folder: Path) -> list[str]:
    """What each block prints, typed in turn in a checkout, beside a service."""
    (folder / "examples").symlink_to(ROOT / "examples")
    # Where commands and interpreter lie in a checkout that `make` has set up.
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    serving = Process(folder / "data")
    outputs = []
    try:
        for block in blocks:
            script = block.replace("localhost:8000", serving.url.removeprefix("http://"))
            run = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
            outputs.append(run.stdout)
    finally:
        serving.stop()
    return outputs


def test_every_sh_block_works(tmp_path: Path) -> None:
    outputs = type_all(BLOCKS, tmp_path)
    assert len(outputs) == 5
    first, by_id, benchmark, mine, served = outputs
    shown = re.search(r"^```json\n(\{\"results.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert shown
    assert json.loads(first) == json.loads(shown[1])
    assert json.loads(by_id)["results"][0][0]["distance"] == 0
    for figure in ("65.47", "33.38", "51.90", "60.60", "31.84", "53.40", "59.98"):
        assert figure in benchmark
        assert f"{round(float(figure) + 1e-9, 1)}" in README
    assert "raw" in mine
    assert "2000 items" in served
    assert "id='item-0', distance=0" in served


def test_the_tutorial_works_as_typed(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert text.count("```") == 2 * len(blocks)
    _, benchmark, best, loaded, asked, better, copied = type_all(blocks, tmp_path)
    assert "things.html" in [path.name for path in tmp_path.iterdir()]
    assert "mAP" in benchmark
    # What the page says of the figures is so.
    found = dict(re.findall(r"^(\w+ +\S+) bits: mAP ([0-9.]+)$", best, re.MULTILINE))
    value = {name.replace(" ", ""): float(figure) for name, figure in found.items()}
    assert len(value) == 7
    assert value["lsh16"] < value["lsh32"] < value["raw-"]
    assert (round(100 * value["raw-"]), round(100 * value["itq16"])) == (74, 88)
    assert value["itq32"] < value["itq16"] < value["sdh16"]
    assert "2900 items" in loaded
    plain, reranked = (float(share) for share in re.findall(r": (\d+)%", asked))
    assert plain < reranked
    tie = int(re.findall(r"tie=(\d+)", asked)[0])
    assert "exact=True" in asked
    assert tie >= 1
    assert "payload={'price': 3}" in asked
    assert "'price': 8" not in asked
    assert float(re.findall(r": (\d+)%", better)[0]) > plain
    assert "encoder='sdh16'" in better
    assert copied.count("items=2900") == 2


def test_the_example_is_what_its_script_makes() -> None:
    script = {"__name__": "script", "__file__": str(ROOT / "examples" / "make.py")}
    exec(compile((ROOT / "examples" / "make.py").read_text(), "make.py", "exec"), script)
    query = script["query"]
    assert callable(query)
    kept = json.loads((ROOT / "examples" / "seven.json").read_text())
    made = query()
    assert kept["descriptors"][0] == pytest.approx(made["descriptors"][0], abs=2e-4)
    assert {**kept, "descriptors": 0} == {**made, "descriptors": 0}
