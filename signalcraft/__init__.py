"""SignalCraft: receive the webhooks of monitoring tools, group the alerts, list the groups.

One line a folder, from the top layer to the bottom one. ``docs/architecture.md`` follows one delivery through them.

::

    cli/           commands: migrate, send, workspace, secret, token, stats, explain, doctor, reconcile, replay, ...
    web/           the web process: create_app, problem details, probes, /metrics, OpenAPI, rq-dashboard
        server/    gunicorn worker that buffers requests, against slow clients; its loop serves small deliveries
    tasks.py       the job functions that RQ calls by name
    dev/           not for production: embedded servers, local stack, demo, mocks, fake Slack, generated documents

    api/           the JSON API: groups, events, notifications, stats; authentication, schemas
    ui/            the pages: sign-in, list, group, event, system; templates, style sheet, script

    ingest/        1. a signed request is verified, limited and durably enqueued, then acknowledged
    worker/        3. deliveries are processed in batches, then the notifier is woken

    notify/        5. people are told: routes, fan-out, delivery
        receivers/ one module for each kind of receiver

    groups/        4. alerts are assigned to groups; groups are updated, counted by the hour
        reading/   groups and events are read: filters, pages, counts, the JSON of a group
    queues/        2. where an acknowledged delivery waits: Redis, else PostgreSQL's inbox; dead letters

    storage/       PostgreSQL: connections, tables, migrations, compression, audit log, retention, tenants

    settings/      environment variables, read into one frozen dataclass; the values they accept
    logs/          log lines: one JSON object each, secrets masked; the thread that writes them
    metrics.py     declared metrics, buffered in the process and summed in Redis
    http_client.py the HTTP client of commands

    sources/       what a sender means; no I/O; one package a sender, and the protocol that all of them have

    resilience.py      CircuitBreaker, BoundedCall: for dependencies that fail or hang
    thread_budgets.py  how the threads of a web process are shared out
    greenlets.py       waiting without a thread, for requests that the loop of a web process serves

    domain/        values and rules; no I/O, no clock: deliveries, alerts, grouping, lifecycle, errors, bounded JSON

Each imports only from layers below; ingest and worker share nothing but the queue and the tables. import-linter checks
both (``pyproject.toml``, ``make imports``).
"""

__version__ = "0.1.0"
