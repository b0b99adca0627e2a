"""`bitcell collections` and `bitcell methods`."""

from __future__ import annotations

from app.cli.options import KeyFileOption, KeyOption, UrlOption


def collections(
    url: UrlOption = None, key: KeyOption = None, key_file: KeyFileOption = None
) -> None:
    """List the collections of the running service."""
    from app.cli.collections.calls import list_collections
    from app.cli.collections.tables import print_table
    from app.cli.running_service import connected

    with connected(url, key, key_file) as service:
        found = list_collections(service)
    rows = [
        (one.name, f"{one.items:,}", f"{one.n_bits}", one.encoder or "", one.metric or "")
        for one in found
    ]
    estimated = ["estimates"] * any(one.metric for one in found)
    headings = ("name", "items", "bits", "encoder", *estimated)
    print_table(headings, [row[: len(headings)] for row in rows], right="items bits")


def methods() -> None:
    """List the hash methods, and what each needs to be trained."""
    from app.cli.collections.tables import print_table
    from hashing import HASHERS

    rows = []
    for name, cls in HASHERS.items():
        needs = ["labels"] * cls.needs_labels + ["torch"] * cls.needs_torch
        about = (cls.__doc__ or "").strip().partition("\n")[0]
        rows.append((name, ", ".join(needs), about))
    print_table(("method", "needs", "about"), rows)
