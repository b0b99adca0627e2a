"""The check that torch is there, in a module that does not import it."""

from __future__ import annotations

from hashing.validation import InvalidInput


def check_torch(what: str) -> None:
    """Raise InvalidInput, which names what is trained with torch, if torch is not installed.

    Only `fit` imports torch, so that encoding works without it and `import hashing` stays fast.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            f"{what} is trained with torch, which cannot be imported ({error}); "
            "`make train-deps` installs it, or, in a checkout, `pip install --no-deps -r "
            "requirements-torch.txt --index-url https://download.pytorch.org/whl/cpu` and then "
            "`pip install '.[train]'`"
        ) from error
