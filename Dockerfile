# The service in a container: as small as its dependencies allow, as a user without rights, stopped by SIGTERM in order.
#
#   docker build --tag execution-service .
#
# It listens beyond loopback inside, so it refuses to start without an API key (EXECUTION_API_KEY, or `execution keys`).
FROM python:3.13.12-slim-bookworm AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# The wheel of the service. What builds it is locked with the developers' tools, which stay behind in this stage.
FROM python AS wheel
WORKDIR /source
COPY requirements-dev.txt ./
RUN pip install --require-hashes --requirement requirements-dev.txt
COPY pyproject.toml README.md LICENSE ./
COPY execution execution
COPY events events
COPY migrations migrations
RUN pip wheel --no-build-isolation --no-deps --no-index --wheel-dir /wheels .

# The virtual environment: dependencies first, because they change less often than the service.
FROM python AS installed
RUN python -m venv /opt/execution
COPY requirements.txt ./
RUN /opt/execution/bin/pip install --require-hashes --requirement requirements.txt
COPY --from=wheel /wheels /wheels
RUN /opt/execution/bin/pip install --no-deps --no-index /wheels/*.whl

FROM python:3.13.12-slim-bookworm
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/execution --shell /usr/sbin/nologin execution
COPY --from=installed /opt/execution /opt/execution
COPY scripts/container /opt/execution/container
ENV PATH=/opt/execution/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EXECUTION_HOST=0.0.0.0 \
    EXECUTION_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/execution
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "/opt/execution/container/is_ready.py"]
ENTRYPOINT ["/opt/execution/container/start"]
CMD ["serve"]
