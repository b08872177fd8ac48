# Two stages: the build backend and pip's leavings stay in the first.
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
COPY requirements.txt requirements-build.txt ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements-build.txt \
    && python -m venv /opt/gatewayz \
    && /opt/gatewayz/bin/pip install --require-hashes --only-binary :all: -r requirements.txt

COPY pyproject.toml LICENSE ./
COPY domain domain
COPY application application
COPY adapters adapters
COPY entrypoints entrypoints
COPY migrations migrations
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/gatewayz/bin/pip install --no-deps --no-index /dist/*.whl


FROM python:3.13-slim

LABEL org.opencontainers.image.title="Gatewayz" \
      org.opencontainers.image.licenses="Apache-2.0"

# var/ holds the embedded database, its keyring and the journal: the one place that is written to, and the
# volume to keep.  The rest of the file system may be mounted read-only.
RUN groupadd --gid 10001 gatewayz \
    && useradd --uid 10001 --gid gatewayz --no-create-home --home-dir /app --shell /usr/sbin/nologin gatewayz \
    && install --directory --owner gatewayz --group gatewayz /app /app/var

COPY --from=build /opt/gatewayz /opt/gatewayz

ENV PATH=/opt/gatewayz/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000

WORKDIR /app
USER 10001:10001
VOLUME /app/var
EXPOSE 8000

# By http.client, which no proxy variable can send elsewhere.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]

CMD ["gatewayz", "serve"]
