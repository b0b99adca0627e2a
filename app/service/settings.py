"""Settings: `BITCELL_*` environment variables, checked at start."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "BITCELL_"
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], BeforeValidator(lambda level: str(level).lower())
]

LogFormat = Literal["auto", "json", "text"]
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
# The service could not tell these from its own paths.
_OWN = ("v1", "page", "docs")


def _check_prefix(path: str) -> str:
    if not _PREFIX.fullmatch(path) or path.split("/")[1:2] in [[own] for own in _OWN]:
        raise ValueError(
            f"expected a path such as /bitcell, which does not begin with {', '.join(_OWN)}"
        )
    return path


RootPath = Annotated[str, AfterValidator(_check_prefix)]


class Settings(BaseSettings):
    """Everything an operator can set. docs/operating.md describes each setting."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    data_dir: Path = Path("bitcell-data")
    database_url: SecretStr | None = None
    index_url: SecretStr | None = None
    index_timeout: float = Field(10.0, gt=0, le=600, allow_inf_nan=False)
    consistency: Literal["strong", "session", "bounded"] = "strong"
    shared_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    demo: bool = True
    max_body: ByteSize = Field(ByteSize(64 << 20), ge=1 << 10)
    max_k: int = Field(10_000, ge=1)
    query_timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    max_columns: ByteSize = Field(ByteSize(256 << 20), ge=1 << 20)
    max_results: int = Field(200_000, ge=1)
    max_answer: ByteSize = Field(ByteSize(64 << 20), ge=1 << 20)
    job_workers: int = Field(2, ge=1, le=64)
    max_jobs: int = Field(16, ge=1)
    max_batch: int = Field(100_000, ge=1)
    max_pixels: int = Field(40_000_000, ge=1)
    max_concurrent: int = Field(256, ge=1)
    max_connections: int = Field(1000, ge=1)
    max_streams: int = Field(64, ge=1)
    max_bodies: ByteSize = Field(ByteSize(256 << 20), ge=1 << 10)
    max_snapshots: ByteSize = Field(ByteSize(64 << 30), ge=0)
    max_datasets: ByteSize = Field(ByteSize(64 << 30), ge=0)
    disk_reserve: ByteSize = Field(ByteSize(256 << 20), ge=0)
    body_timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    answer_timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    require_keys: bool | None = None
    root_path: RootPath = ""
    allowed_hosts: str = ""
    drain_seconds: float = Field(1.0, ge=0, le=60, allow_inf_nan=False)
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"

    @property
    def has_record(self) -> bool:
        """Whether the data directory has a record, so that it is all or a part of the data."""
        return self.database_url is None or self.index_url is None

    @property
    def files_dir(self) -> Path:
        """The folder of datasets, downloads and snapshots."""
        return self.data_dir if self.shared_dir is None else self.shared_dir


def known_variables() -> list[str]:
    """Return the names of all variables that Bitcell reads."""
    return [PREFIX + name.upper() for name in Settings.model_fields]


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return variables with our prefix that are not settings: they are probably misspelt."""
    known = known_variables()
    return sorted(v for v in environment if v.upper().startswith(PREFIX) and v.upper() not in known)
