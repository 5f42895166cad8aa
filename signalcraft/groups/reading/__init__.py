"""Read groups and events: filters, pages, counts, and the JSON of a group."""
