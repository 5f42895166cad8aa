"""Pages for people: the list of groups, a group, an event, the system. Rendered here; forms, and one small script."""
