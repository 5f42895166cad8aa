"""Where an acknowledged delivery waits: Redis, else PostgreSQL's inbox; else the dead letters."""
