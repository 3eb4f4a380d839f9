FROM python:3.11-slim-bookworm AS build
COPY requirements/runtime.txt /
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /runtime.txt

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin funnel \
    && install --directory --owner funnel --group funnel --mode 700 /data
COPY --from=build /venv /venv
COPY . /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH DATA_DIR=/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER funnel
VOLUME /data
EXPOSE 8000
CMD ["gunicorn", "funnel.wsgi:application", "--bind", "0.0.0.0:8000", "--threads", "8"]
