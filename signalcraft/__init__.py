"""SignalCraft: Sentry's webhooks in, a few groups out.

The house, floor by floor. A module imports only from the floors below its own;
import-linter holds it to that (``pyproject.toml``).

::

    web | cli | arrivals    entry points: wiring, the command line, how gunicorn takes requests in
    manual | views | reading | changing | batching | draining | demo | care | rescue | doctor | dashboard
                            the routes; the RQ worker that takes many jobs at once; the thread that works off
                            PostgreSQL's shelf; the demonstration; commands for whoever looks after it, and
                            for whoever wonders whether it works; the queues to look at
    description | tasks     the API, described; what RQ runs
    answers                 the shapes of its answers
    schemas | inputs | gate | deployment | hosting | recovery | reconciling
                            the API's words, out and in; who may call it; web and worker on a laptop, servers for
                            failure tests; ways back: kept deliveries, lost jobs
    parameters | parts | pipeline | previews | explanations | canary
                            kinds of values; what routes use; the life of an alert; where one would land; why one is
                            where it is, in words; a delivery of our own that tries the whole way out
    notices | episodes      rules and notifications; trouble of our own, told of through them
    workbench | checkups | diagnosis
                            what the worker works by; what doctor looks at; why a signature is not good
    intake | health | chores | cursors | versions | credentials | deliveries | problems | samples
                            the steps of taking in, how we are, what is done once a day, where a page begins,
                            what a request is let in by, a request as a delivery, how we say no; signed sample
                            deliveries
    directory | claims      who may come in, as the web process knows it; a worker's hold on its jobs
    store | changes | edits | stats | retention | tenants | retrieval | inbox | jobs | rates | embedded
                            PostgreSQL: alerts, what sources say and users do, what is kept, tenants, reading, the
                            shelf; Redis: jobs and limits; both servers from wheels
    border | hours          what may pass into the tables; what each hour counts
    placing                 which group an event goes into
    statements | slowness | capacity | catalogue | exposition | runs
                            the SQL of that; which of it was slow; how much there is; the page of all metrics, what
                            /metrics says; alerts on their way into the tables
    filters                 which groups are meant
    places | models | migrations | metrics | breaker | client | connections | documents | durability | patience |
    watchdog | history | turns
                            the tables, what is counted, what failed is left alone for a moment, ways to reach
                            Redis and what it would forget, who changed what, threads that take turns
    sources | grouping      what a sender means, what belongs together
    lifecycle               which status may follow which
    alerts | settings | logs | findings | payloads | parsing
                            the words of the domain, configuration, log lines, what doctor finds, how bodies are kept,
                            and read within bounds
    errors                  how we say no, and the two kinds of failure

``pipeline`` is the product on one screen: start there. ``alerts``, ``errors``, ``grouping``,
``lifecycle``, ``parsing`` and ``sources`` do no I/O and read no clock.
"""
