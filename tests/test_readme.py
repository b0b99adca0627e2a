"""The README's commands work as they are written, in its order, against one service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.test_serving import Process

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_every_sh_block_works(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    # Where commands and interpreter lie in a checkout that `make` has set up.
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    serving = Process(tmp_path / "data")
    outputs = []
    try:
        for block in BLOCKS:
            script = block.replace("localhost:8000", serving.url.removeprefix("http://"))
            run = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
            outputs.append(run.stdout)
    finally:
        serving.stop()
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
    assert "{'upserted': 2000, 'items': 2000}" in served
    assert "'id': 'item-0', 'distance': 0" in served


def test_the_example_is_what_its_script_makes() -> None:
    script = {"__name__": "script", "__file__": str(ROOT / "examples" / "make.py")}
    exec(compile((ROOT / "examples" / "make.py").read_text(), "make.py", "exec"), script)
    query = script["query"]
    assert callable(query)
    kept = json.loads((ROOT / "examples" / "seven.json").read_text())
    made = query()
    assert kept["descriptors"][0] == pytest.approx(made["descriptors"][0], abs=2e-4)
    assert {**kept, "descriptors": 0} == {**made, "descriptors": 0}
