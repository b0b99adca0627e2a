"""The calls of the command line to a running service that owns the data directory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
from pydantic import BaseModel, ValidationError

from app.cli.options import check_settings, chosen_key, load_settings
from app.http import npy
from app.http.schemas import Accepted, CollectionOut, EncoderOut, JobOut, SnapshotOut
from app.service.data_dir import noted_url
from app.service.keys import PREFIX, READ, WRITE
from app.service.settings import Settings
from app.service.state.keys import KeyStore
from app.service.state.opening import keys_of
from hashing.atomic_file import atomic_write
from hashing.progress import Progress

# A snapshot of many millions of items takes minutes.
_TIMEOUT = httpx2.Timeout(3600, connect=30)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Answer = TypeVar("Answer", bound=BaseModel)


class Refused(ValueError):
    """The service refused a call, with an HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RunningService:
    """The calls that commands make; ValueError if one fails."""

    def __init__(self, http: httpx2.Client, key: str | None) -> None:
        self._http, self._key = http, key

    @property
    def url(self) -> str:
        """The address of the service."""
        return str(self._http.base_url).rstrip("/")

    def encoder_fingerprint(self, name: str) -> str | None:
        """Return the fingerprint of an encoder, or None if there is no such encoder."""
        response = self._request("GET", _path("encoders", name))
        if response.status_code == 404:
            return None
        return self._read(EncoderOut, response).fingerprint

    def snapshot(self, collection: str) -> SnapshotOut:
        """Have a collection written to a file in `snapshots/` of the data directory."""
        response = self._request("POST", _path("collections", collection, "snapshots"))
        return self._read(SnapshotOut, response)

    def restore(self, collection: str, file: str, encoder: str | None) -> CollectionOut:
        """Have a collection created from a file in `snapshots/` of the data directory."""
        path = _path("collections", collection, "restore")
        body = {"snapshot": file, "encoder": encoder}
        return self._read(CollectionOut, self._request("POST", path, body))

    def find_duplicates(self, collection: str, body: dict[str, Any]) -> Accepted:
        """Have near-duplicates searched for, as a job."""
        path = _path("collections", collection, "duplicates")
        return self._read(Accepted, self._request("POST", path, body))

    def job(self, job: str) -> JobOut:
        """Return a job."""
        return self._read(JobOut, self._request("GET", _path("jobs", job)))

    def wait(self, job: str, progress: Progress) -> JobOut:
        """Return a job when it is done; ValueError if it failed or was cancelled."""
        pause = _FIRST_PAUSE
        while True:
            shown = self.job(job)
            if shown.state == "done":
                return shown
            if shown.state in ("failed", "cancelled"):
                raise ValueError(shown.error or f"job {job} was cancelled")
            if shown.progress is not None:
                progress(shown.progress.done, shown.progress.of, shown.progress.now)
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)

    def remove_job(self, job: str) -> None:
        """Cancel a job, or delete one that has ended."""
        self._request("DELETE", _path("jobs", job))

    def save_groups(self, job: str, file: Path) -> None:
        """Write the groups that a job found to a file: npy if its name says so, or JSON lines."""
        accept = npy.MEDIA_TYPE if file.suffix == ".npy" else "*/*"
        headers = _authorization(self._key) | {"Accept": accept}
        path = _path("jobs", job, "groups")
        with self._http.stream("GET", path, headers=headers) as response:
            if response.status_code >= 300:
                response.read()
                raise ValueError(_detail(response))
            with atomic_write(file) as target:
                for part in response.iter_bytes():
                    target.write(part)

    def send(self, method: str, *path: str, **more: Any) -> httpx2.Response:
        """Send a call to a path below `/v1`; Refused if it is refused."""
        more["headers"] = _authorization(self._key) | more.get("headers", {})
        response = self._http.request(method, _path(*path), **more)
        if response.status_code >= 300:
            raise Refused(_detail(response), response.status_code)
        return response

    def _request(self, method: str, path: str, body: object = None) -> httpx2.Response:
        return self._http.request(method, path, json=body, headers=_authorization(self._key))

    def _read(self, kind: type[Answer], response: httpx2.Response) -> Answer:
        if response.status_code >= 300:
            raise ValueError(_detail(response))
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise ValueError(
                f"expected {kind.__name__} from {response.url}, got {response.text!r:.100}"
            ) from None


@contextmanager
def connected(url: str | None, key: str | None, key_file: Path | None) -> Iterator[RunningService]:
    """Open a connection to a service by the options of a command.

    With a key the service may have its data directory elsewhere; without one it must be ours.
    """
    settings, given = load_settings(), chosen_key(key, key_file)
    if given is None:
        check_settings(settings)
    with running_service(settings, url, given) as service:
        yield service


@contextmanager
def running_service(
    settings: Settings, url: str | None, key: str | None = None
) -> Iterator[RunningService]:
    """Find the service that owns the data directory, and open a connection to it.

    A `key` that the user gave is sent to whatever answers `/readyz` as Bitcell does.

    Without one, a key that may write is sent only to a service that has shown that it reads the
    keys of this data directory. Whoever may write the data directory may create keys in it, so the
    command creates its own and revokes them:

    1. Without a key, `/readyz` must answer as Bitcell does.
    2. A random key that nobody created must be refused. If it is not, the service asks for no
       keys, and none is sent.
    3. A key that may only read, created for this one request and revoked after it, must be
       accepted. A service with another data directory refuses it.
    4. Only then is a key that may write created; it is revoked when the command ends.

    This does not protect against an attacker who listens at the URL and passes everything on to
    the real service. Hence no key is sent over plain http beyond loopback unless the operator has
    given the address (`url`), and never through a proxy.

    Raises
    ------
    ValueError
        No service answers, it has another data directory, or it refuses a call.
    """
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"--url takes a URL with http:// or https://, got {url!r:.100}")
    address = _default_url(settings) if url is None else url
    # An explicit transport: the proxies of the environment are not used.
    transport = httpx2.HTTPTransport()
    try:
        with httpx2.Client(base_url=address, timeout=_TIMEOUT, transport=transport) as http:
            if key is None:
                with _own_key(http, settings, address, is_chosen=url is not None) as own:
                    yield RunningService(http, own)
                return
            if url is None:
                _check_private(address)
            _check_bitcell(http, address)
            yield RunningService(http, key)
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise ValueError(
            f"no service answers at {address}: {type(error).__name__}: {error}; give the address "
            f"of the one that owns {settings.data_dir} with --url"
        ) from None


@contextmanager
def _own_key(
    http: httpx2.Client, settings: Settings, address: str, *, is_chosen: bool
) -> Iterator[str | None]:
    """Lend a key of the data directory; None if the service asks for none."""
    with keys_of(settings) as keys:
        if keys.required and not is_chosen:
            _check_private(address)
        _check_bitcell(http, address)
        # Never create the first key: the service would require keys from then on.
        if not keys.required or not _asks_for_keys(http):
            yield None
            return
        _check_owner(http, keys, settings, address)
        with _temporary_key(keys, WRITE) as key:
            yield key


def _default_url(settings: Settings) -> str:
    """Return the address that the service noted, or that of the settings if it noted none."""
    if (noted := noted_url(settings.data_dir)) is not None:
        return noted
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _check_bitcell(http: httpx2.Client, address: str) -> None:
    response = http.get("/readyz")
    if response.status_code == 503:
        raise ValueError(f"the service at {address} is not ready: {_detail(response)}")
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.status_code != 200 or not isinstance(answer, dict) or "collections" not in answer:
        raise ValueError(
            f"expected Bitcell at {address}, got {response.status_code} {response.text!r:.100}; "
            "give the address of the service with --url"
        )


def _asks_for_keys(http: httpx2.Client) -> bool:
    unknown = PREFIX + secrets.token_urlsafe(32)
    return http.get("/v1/encoders", headers=_authorization(unknown)).status_code == 401


def _check_private(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError(
            f"a key would go over plain http to {parts.hostname}: if that is what you want, give "
            f"the address of the service with --url {address}"
        )


def _check_owner(http: httpx2.Client, keys: KeyStore, settings: Settings, address: str) -> None:
    with _temporary_key(keys, READ) as key:
        response = http.get("/v1/encoders", headers=_authorization(key))
    if response.status_code == 401:
        raise ValueError(
            f"the service at {address} has another data directory: it does not know a key made in "
            f"{settings.data_dir}; give the address of the right service with --url"
        )
    if response.status_code != 200:
        raise ValueError(_detail(response))


@contextmanager
def _temporary_key(keys: KeyStore, scope: str) -> Iterator[str]:
    key, secret = keys.create("bitcell command", scope)
    try:
        yield secret
    finally:
        keys.revoke(key.id)


def _authorization(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _path(*parts: str) -> str:
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"{part!r} is not a name")
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])


def _detail(response: httpx2.Response) -> str:
    """Return what the service says is wrong."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "detail" in problem:
        return str(problem["detail"])
    return f"expected an answer of Bitcell, got {response.status_code} {response.text!r:.100}"
