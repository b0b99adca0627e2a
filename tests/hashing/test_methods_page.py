"""docs/methods.md covers every method and parameter, and its example works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitcodes import pack
from hashing import HASHERS, InvalidInput
from hashing.estimator import parameters

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()


@pytest.mark.parametrize("method", HASHERS)
def test_every_method_has_a_section_with_its_parameters(method: str) -> None:
    found = re.search(rf"^### {method}\n(.*?)^##", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"no section {method}"
    for name in parameters(HASHERS[method]).keys() - {"n_bits", "random_state"}:
        assert f"`{name}`" in found[1], name
    assert f"| [`{method}`](#{method}) |" in PAGE


def test_the_example_of_a_new_method_works(X: NDArray[Any]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    hasher = names["FirstComponents"](n_bits=20).fit(X)
    means = X[:, :20].mean(axis=0, dtype=float).astype(np.float32)
    np.testing.assert_array_equal(hasher.encode(X), pack(X[:, :20] - means))
    assert hasher.n_learned == hasher.learned_values(384) == 20
    copy = names["FirstComponents"](n_bits=20)
    copy.restore(384, {"mean_": hasher.mean_})
    assert copy.fingerprint == hasher.fingerprint
    bad = X[:3].copy()
    bad[1, 300] = np.nan
    with pytest.raises(InvalidInput, match="row 1, column 300"):
        hasher.encode(bad)
