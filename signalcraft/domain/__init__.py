"""Values and rules of alerting. No I/O, no clock: time is an argument."""
