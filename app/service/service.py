"""The service without HTTP: everything that works on one data directory."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import literal, select

from app.errors import Unready
from app.jobs import benchmark, duplicates, recommendation, training
from app.jobs.kind import Kind
from app.jobs.queue import Jobs
from app.jobs.theory import explanation
from app.pools import Pool, close_all
from app.service import encoders
from app.service.benchmarks import Benchmarks
from app.service.checks import Answers, check_batch
from app.service.collections import duplicates as finding
from app.service.collections import kept_descriptors, reencoding
from app.service.collections.collections import Collections
from app.service.collections.recommendations import Recommendations
from app.service.collections.searches import Searches
from app.service.collections.snapshots import Snapshots
from app.service.data_dir import open_private, remove_partial_files
from app.service.drift.watch import Drift
from app.service.encoder_store import EncoderStore
from app.service.encoders import Encoders
from app.service.files.dataset_files import Datasets
from app.service.prometheus import Holdings, Metrics
from app.service.settings import Settings
from app.service.state.opening import Opened, open_all, open_keys
from app.service.theory import explanations

# As many as FastAPI has for all other calls.
QUERY_THREADS = 40
# Slow queries keep the processors busy by themselves. With several at a time, one that takes very
# long does not keep the others waiting.
SLOW_QUERY_THREADS = 8
# Where keys are in a shared database; a connection for each at most.
KEY_THREADS = 8
# How long `close` waits for running work; see GRACE_SECONDS in app/http/server.py.
STOP_SECONDS = 1.5

log = structlog.stdlib.get_logger("bitcell")


class Service:
    """The parts of a service that share a data directory.

    Attributes
    ----------
    encoders, collections, searches, snapshots, datasets, benchmarks, recommendations,
    explanations, duplicates
        What the service does, by subject.
    answers, jobs, keys, metrics, database, settings
        What several of them use.
    query_pool : Pool
        Threads that answer queries, so that the event loop stays free.
    slow_query_pool : Pool
        Threads for queries that may take long, so that the others do not wait for them.
    image_pool : Pool
        One thread that decodes image files, because one file may take much memory.
    statistics_pool : Pool
        One thread that computes statistics and tests for drift, so that these delay nothing else.
    key_pool : Pool
        Threads that look up keys in a shared database.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.query_pool = Pool(QUERY_THREADS, "query")
        self.slow_query_pool = Pool(SLOW_QUERY_THREADS, "slow query")
        self.image_pool = Pool(1, "image")
        self.statistics_pool = Pool(1, "statistics")
        self.key_pool = Pool(KEY_THREADS, "key")
        self.all_ended = True
        # `close` closes these in reverse order, and so does an error before all of them are open.
        open_private(settings.data_dir)
        with ExitStack() as opened:
            found = open_all(settings, opened)
            self.state, self.database = found.state, found.record
            settings.files_dir.mkdir(parents=True, exist_ok=True)
            for folder in {settings.data_dir, settings.files_dir}:
                remove_partial_files(folder)
            self.keys = open_keys(settings, self.state)
            opened.callback(self.keys.close)
            self._prepare_keys()
            self._connect(settings, found, EncoderStore(self.state))
            self.jobs.resume()
            self._opened = opened.pop_all()
        self._closed = False

    def _prepare_keys(self) -> None:
        try:
            self.keys.prepare()
        except OSError as error:
            # The service can start all the same, for instance on a full disk.
            log.warning("keys could not be prepared for a full disk", error=str(error))

    def _connect(self, settings: Settings, found: Opened, encoder_store: EncoderStore) -> None:
        self._found, store = found, found.store
        self.metrics = Metrics()
        self.answers = Answers(settings)
        export = partial(kept_descriptors.export, store, settings)
        kinds = {
            "benchmark": Kind(benchmark.work, partial=True, prepare=export),
            explanation.KIND: Kind(
                explanation.work, prepare=partial(explanations.export, encoder_store, export)
            ),
            "training": Kind(
                training.work,
                prepare=export,
                finish=partial(encoders.keep_trained, encoder_store),
            ),
            "reencoding": Kind(
                partial(reencoding.work, store, encoder_store, self.metrics, settings), inside=True
            ),
            recommendation.KIND: Kind(recommendation.work, prepare=export),
            duplicates.KIND: Kind(
                duplicates.work,
                prepare=partial(finding.export, store, settings),
                finish=partial(finding.check_result, settings),
            ),
        }
        self.jobs = Jobs(
            self.state,
            settings.data_dir,
            kinds,
            workers=settings.job_workers,
            limit=settings.max_jobs,
            files_dir=settings.files_dir,
        )
        self.jobs.on_end = self.metrics.count_job
        encoder_store.trained_by = self.jobs.trains
        drift = Drift(found.index_state, store, self.statistics_pool)
        self.metrics.watch(Holdings(found, encoder_store, self.jobs, drift, settings.data_dir))
        self.collections = Collections(
            settings, store, encoder_store, self.jobs, self.metrics, drift
        )
        self.datasets = Datasets(settings, self.jobs, self.state)
        self.encoders = Encoders(
            settings, encoder_store, self.collections, self.jobs, self.datasets
        )
        self.searches = Searches(settings, store, encoder_store, self.metrics)
        self.snapshots = Snapshots(settings, store, encoder_store, self.encoders)
        self.benchmarks = Benchmarks(self.datasets, self.collections, self.jobs)
        self.recommendations = Recommendations(
            self.datasets, self.collections, self.encoders, self.jobs
        )
        self.explanations = explanations.Explanations(
            self.datasets, self.collections, encoder_store, self.jobs
        )
        self.duplicates = finding.Duplicates(store, self.jobs)

    @property
    def is_reached(self) -> bool:
        """Whether the shared database, if there is one, answered when it was last asked."""
        return all(state.is_reached for state in self._found.servers)

    def check_ready(self) -> int:
        """Return the number of collections; raise Unready or Unavailable if it cannot be read."""
        if self.database is not None:
            if (fault := self.database.fault) is not None:
                raise Unready(fault)
            self.database.read("SELECT 1")
        self.state.read(select(literal(1)))
        return len(self.collections.list())

    def describe_images(self, files: list[bytes]) -> NDArray[np.float32]:
        """Return the GIST descriptors of image files, (n, 384). Call it in `image_pool`."""
        # Imported here, so that a service that receives no image does not load Pillow.
        from app.service.images import describe

        check_batch(len(files), self.settings)
        return describe(files, self.settings.max_pixels)

    def close(self) -> None:
        """Stop all work and close the database; a second call does nothing.

        Afterwards `all_ended` says whether all threads of the pools and of jobs have ended. If one
        has not, Python waits for it when the process exits.
        """
        if self._closed:
            return
        self._closed = True
        self.searches.stop()
        pools = (
            self.image_pool,
            self.query_pool,
            self.slow_query_pool,
            self.statistics_pool,
            self.key_pool,
        )
        queries_ended = close_all(pools, STOP_SECONDS)
        if not queries_ended:
            log.warning("the service stops although queries are still running")
        jobs_ended = self.jobs.close()
        self.all_ended = queries_ended and jobs_ended
        self._opened.close()
