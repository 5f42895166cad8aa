"""SignalCraft: Sentry's webhooks in, a few groups out.

The house, floor by floor. A module imports only from the floors below its own;
import-linter holds it to that (``pyproject.toml``).

::

    web | tasks | cli       entry points: wiring, what RQ runs, the command line
    views | batching | draining | demo | care
                            the routes; the RQ worker that takes many jobs at once; the thread that works off
                            PostgreSQL's shelf; the demonstration; commands for whoever looks after it
    schemas | deployment    marshmallow for the API; web and worker on a laptop
    pipeline | previews | explanations
                            the life of an alert; where one would land; why one is where it is, in words
    notices                 rules and notifications
    workbench               what the worker works by
    intake | health | chores | cursors | deliveries | problems | samples
                            the steps of taking in, how we are, what is done once a day, where a page begins,
                            a request as a delivery, how we say no; signed sample deliveries
    directory | claims      who may come in, as the web process knows it; a worker's hold on its jobs
    store | changes | retention | tenants | retrieval | inbox | jobs | rates | embedded
                            PostgreSQL: alerts, what sources say of them, what is kept, tenants, reading, the shelf;
                            Redis: jobs and limits; both servers from wheels
    border                  what may pass into the tables
    placing                 which group an event goes into
    statements              the SQL of that
    models | migrations | metrics | breaker | client | documents
                            the tables, what is counted, what failed is left alone for a moment
    sources | grouping      what a sender means, what belongs together
    lifecycle               which status may follow which
    alerts | settings | logs    the words of the domain, configuration, log lines
    errors                  how we say no, and the two kinds of failure

``pipeline`` is the product on one screen: start there. ``alerts``, ``errors``, ``grouping``,
``lifecycle`` and ``sources`` do no I/O and read no clock.
"""
