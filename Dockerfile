# One image for every process; the command selects it. Not built in CI.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/signalcraft

COPY requirements.txt .
RUN pip install --requirement requirements.txt

COPY app.py worker.py gunicorn.conf.py ./
COPY migrations migrations
COPY signalcraft signalcraft

# by number: Kubernetes (runAsNonRoot) refuses a user name
RUN useradd --uid 10001 --no-create-home signalcraft
USER 10001

EXPOSE 8000
# exec form: SIGTERM reaches gunicorn itself, which then shuts down gracefully
CMD ["gunicorn", "app:app"]
