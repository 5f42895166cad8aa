"""Storage of acknowledged deliveries: the Redis queue, PostgreSQL's inbox as its fallback, and the dead letters."""
