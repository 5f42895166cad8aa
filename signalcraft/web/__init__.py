"""The web process: wiring, problem responses, probes, OpenAPI."""
