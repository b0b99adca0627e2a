"""What an import brings along, proved in processes of their own."""

from __future__ import annotations

import subprocess
import sys

# Records even a caught attempt to import: the check holds whether or not the package is there.
WATCH = """
import sys
class Watch:
    tried = set()
    def find_spec(self, name, path=None, target=None):
        self.tried.add(name.partition(".")[0])
sys.meta_path.insert(0, Watch())
{code}
print(" ".join(sorted(Watch.tried)))
"""


def imported_by(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", WATCH.format(code=code)], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_the_watch_sees_a_caught_import() -> None:
    code = "try:\n    import nowhere.nn\nexcept ImportError:\n    pass"
    assert "nowhere" in imported_by(code)


def test_hashing_is_a_library_of_its_own() -> None:
    heavy = {"torch", "faiss", "fastapi", "sklearn", "app", "index", "PIL"}
    assert not imported_by("import hashing, hashing.gist") & heavy


def test_index_knows_no_encoder() -> None:
    tried = imported_by("import index")
    assert "faiss" in tried
    assert not tried & {"torch", "fastapi", "hashing", "app", "sklearn"}


def test_the_process_of_a_job_loads_no_service() -> None:
    jobs = (
        "process",
        "training",
        "benchmark",
        "duplicates",
        "recommendation",
        "theory.explanation",
    )
    tried = imported_by(
        "import app.explain.render, app.jobs.theory.explanation\n"
        + "".join(f"import app.jobs.{name}\n" for name in jobs)
    )
    assert not tried & {"torch", "faiss", "fastapi", "structlog"}


def test_what_describes_images_loads_no_service() -> None:
    tried = imported_by("import app.service.images, app.errors, app.datasets.catalog")
    assert not tried & {"torch", "faiss", "fastapi", "index"}


def test_the_service_loads_no_web_framework() -> None:
    assert not imported_by("import app.service.service") & {"torch", "fastapi", "starlette"}
