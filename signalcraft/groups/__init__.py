"""Alert groups: recording, assignment, status updates and queries."""
