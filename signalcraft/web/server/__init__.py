"""gunicorn's worker, with buffered requests and bounded connections."""
