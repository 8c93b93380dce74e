# The images of node and bridge: docker build --target node .  and  docker build --target bridge .
#
# Neither runs as root and neither writes outside /data, so both run with a read-only root file system. What they
# install is fixed by the lock files in deploy/, with the hash of every file. The node's image has no pandas.

FROM python:3.13-slim-trixie AS base
RUN groupadd --gid 10001 sensors \
    && useradd --uid 10001 --gid sensors --no-create-home --home-dir /data --shell /usr/sbin/nologin sensors \
    && install -d -o sensors -g sensors -m 0750 /data

# --- what both install: this project's wheel -----------------------------------------------------------------------
FROM base AS wheels
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/requirements-build.lock deploy/requirements-pins.lock /
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r /requirements-build.lock
# The pin library of a real Pi (compose.pi.yaml) is built from its source, so only where it is asked for.
ARG PINS=
RUN mkdir /wheels && if [ -n "$PINS" ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev swig \
        && PYPI=1 /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
            --require-hashes -r /requirements-pins.lock; \
    fi
COPY pyproject.toml README.md LICENSE /src/
COPY mqtt_client /src/mqtt_client
COPY bridge /src/bridge
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src

# --- node ----------------------------------------------------------------------------------------------------------
FROM base AS node-packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/requirements-node.lock /
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --require-hashes -r /requirements-node.lock

FROM base AS node
COPY --from=node-packages /opt/venv /opt/venv
COPY deploy/docker/healthy /usr/local/bin/
COPY --from=wheels /wheels /wheels
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OUTBOX_PATH=/data/outbox.db
USER sensors
WORKDIR /data
VOLUME /data
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s CMD ["healthy", "node"]
CMD ["mqtt-node", "run"]

# --- bridge --------------------------------------------------------------------------------------------------------
FROM base AS bridge-packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/requirements-bridge.lock /
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --require-hashes -r /requirements-bridge.lock \
    && find /opt/venv -type d \( -name tests -o -name sample_data \) -prune -exec rm -r {} +

FROM base AS bridge
# The volumes of compose.yaml take owner and mode from these folders.
RUN install -d -o sensors -g sensors -m 0750 /accounts/bridge /accounts/kitchen /accounts/garage \
    && install -d -o sensors -g sensors -m 0755 /broker \
    && install -d /mosquitto/data
COPY --from=bridge-packages /opt/venv /opt/venv
COPY deploy/docker/healthy deploy/docker/set-up /usr/local/bin/
COPY examples/receiver.py /opt/examples/
COPY --from=wheels /wheels /wheels
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index \
        /wheels/mqtt_sensor_bridge-*.whl
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    STORE_URL=sqlite:////data/bridge.db \
    ARCHIVE_DIRECTORY=/data/archives \
    BACKUP_DIRECTORY=/data/backup \
    MPLCONFIGDIR=/tmp/matplotlib
USER sensors
WORKDIR /data
VOLUME /data
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s CMD ["healthy", "bridge"]
CMD ["mqtt-bridge", "run"]
