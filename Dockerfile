# Install the dependencies before the code, so that this layer changes only with the locked versions.
# They include what the service needs with PostgreSQL and Milvus, some 90 MB.
FROM python:3.11-slim-bookworm AS build
RUN python3 -m venv /opt/bitcell
COPY requirements-servers.txt /tmp/
RUN /opt/bitcell/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements-servers.txt \
 && find /opt/bitcell -type d -name tests -path '*/site-packages/*' -prune -exec rm -rf {} + \
 # What neither Bitcell nor the rest of scipy loads: Bitcell takes fft, linalg, sparse and
 # special.
 && cd /opt/bitcell/lib/python3.11/site-packages/scipy \
 && rm -rf cluster datasets differentiate fftpack integrate interpolate io misc ndimage odr \
    optimize signal spatial stats
COPY pyproject.toml README.md LICENSE /src/
COPY app /src/app
COPY bitcodes /src/bitcodes
COPY hashing /src/hashing
COPY index /src/index
RUN /opt/bitcell/bin/pip install --no-cache-dir --no-deps /src \
 && /opt/bitcell/bin/pip uninstall --yes --quiet pip setuptools

# The service, without torch, as an unprivileged user. Build it with
# `docker build --target serve -t bitcell .`; docs/operating.md describes how to run it.
FROM python:3.11-slim-bookworm AS serve
# A new volume at /shared (BITCELL_SHARED_DIR) takes over the owner of that folder.
RUN useradd --uid 10001 --user-group --no-create-home bitcell \
 && install -d -m 700 -o bitcell -g bitcell /data /shared
COPY --from=build /opt/bitcell /opt/bitcell
ENV PATH=/opt/bitcell/bin:$PATH \
    BITCELL_DATA_DIR=/data \
    BITCELL_HOST=0.0.0.0
USER bitcell
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s CMD \
    ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["bitcell"]
CMD ["serve"]
