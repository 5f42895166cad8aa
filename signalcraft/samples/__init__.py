"""A stand-in for Sentry."""
