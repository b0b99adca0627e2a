"""How a call is described once and becomes a method of both clients."""

from __future__ import annotations

import inspect
import io
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import httpx2
import numpy as np
from numpy.typing import NDArray

from bitcell_client.decode import from_json

NPY = "application/x-npy"
T = TypeVar("T")
D = TypeVar("D", bound=np.generic)
P = ParamSpec("P")


@dataclass(frozen=True)
class Request(Generic[T]):
    """What a call sends, and the function that reads its answer.

    `read` raises ValueError if the answer does not have the expected form. `path` has a value for
    each placeholder in the call's path.

    Where the input is too large for one request, this is the first of several: `more` has the
    others, each with the `row` of the input that it begins with, and `join` makes one answer of
    all.
    """

    read: Callable[[httpx2.Response], T]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    row: int = 0
    more: Iterable[Request[T]] = ()
    join: Callable[[list[T]], T] | None = None


class BlockingSender(ABC):
    """A client whose calls return the answer."""

    @abstractmethod
    def _send(self, call: Call[Any, Any], request: Request[T]) -> T: ...


class AsyncSender(ABC):
    """A client whose calls return an awaitable of the answer."""

    @abstractmethod
    async def _send(self, call: Call[Any, Any], request: Request[T]) -> T: ...


class Call(Generic[P, T]):
    """A descriptor that makes a method of both clients from one description.

    Parameters
    ----------
    method, path : str
        The HTTP method, and a path such as `/v1/encoders/{name}`, with placeholders in braces.
    safe : bool
        Whether the call may be sent again when it is not known whether the service received it.
    describe : callable
        Takes the arguments of the method and returns the `Request`.
    """

    def __init__(
        self,
        method: str,
        path: str,
        safe: bool,
        describe: Callable[Concatenate[Any, P], Request[T]],
    ) -> None:
        self.method, self.path, self.safe = method, path, safe
        self.describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(
        self, client: None, owner: type[BlockingSender]
    ) -> Callable[Concatenate[BlockingSender, P], T]: ...
    @overload
    def __get__(
        self, client: None, owner: type[AsyncSender]
    ) -> Callable[Concatenate[AsyncSender, P], Awaitable[T]]: ...
    @overload
    def __get__(self, client: BlockingSender, owner: Any = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncSender, owner: Any = None) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: Any = None) -> Any:
        is_async = issubclass(owner or type(client), AsyncSender)
        function = self._async_function if is_async else self._blocking_function
        return function if client is None else MethodType(function, client)

    @cached_property
    def _blocking_function(self) -> Callable[..., Any]:
        return self._function("{}")

    @cached_property
    def _async_function(self) -> Callable[..., Any]:
        return self._function("Awaitable[{}]")

    def _function(self, returns: str) -> Callable[..., Any]:
        """Return the method, with the signature of the description but for what it returns."""

        @wraps(self.describe)
        def call(client: Any, *args: Any, **kwargs: Any) -> Any:
            return client._send(self, self.describe(client, *args, **kwargs))

        signature = inspect.signature(self.describe)
        answer = str(signature.return_annotation).removeprefix("Request[").removesuffix("]")
        result = returns.format(answer)
        call.__annotations__ = call.__annotations__ | {"return": result}
        call.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
        return call


def call(
    method: str, path: str, *, safe: bool | None = None
) -> Callable[[Callable[Concatenate[Any, P], Request[T]]], Call[P, T]]:
    """Decorate the description of a call; by default only GET is safe."""
    is_safe = method == "GET" if safe is None else safe
    return lambda describe: Call(method, path, is_safe, describe)


def answer_as(kind: type[T]) -> Callable[[httpx2.Response], T]:
    """Return a function that reads an answer in JSON as a type."""
    return lambda response: from_json(kind, response.content)


def matrix_as(dtype: type[D]) -> Callable[[httpx2.Response], NDArray[D]]:
    """Return a function that reads an answer in npy as a matrix of a type.

    It raises ValueError for anything else, and allocates nothing for a size that is only claimed.
    """

    def read(response: httpx2.Response) -> NDArray[D]:
        file = io.BytesIO(response.content)
        if (version := np.lib.format.read_magic(file)) != (1, 0):
            raise ValueError(f"expected npy of version 1.0, got {version}")
        shape, is_fortran, actual = np.lib.format.read_array_header_1_0(file)
        if actual != np.dtype(dtype) or len(shape) != 2 or min(shape) < 0:
            raise ValueError(
                f"expected a matrix of {np.dtype(dtype)}, got {actual} of shape {shape}"
            )
        data = np.frombuffer(file.read(), actual)
        return data.reshape(shape, order="F" if is_fortran else "C").copy()

    return read


def read_text(response: httpx2.Response) -> str:
    """Read an answer in plain text or HTML."""
    return response.text


def read_bytes(response: httpx2.Response) -> bytes:
    """Read an answer that is a file."""
    return response.content


def read_nothing(response: httpx2.Response) -> None:
    """Ignore the body of an answer."""


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries whose value is not None."""
    return {name: value for name, value in values.items() if value is not None}


def as_npy(*arrays: NDArray[Any]) -> bytes:
    """Return arrays as one body: a file of `numpy.save` after another."""
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array, allow_pickle=False)
    return file.getvalue()
