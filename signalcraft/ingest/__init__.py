"""Receive deliveries: verify, limit, identify, enqueue, acknowledge.

Shares nothing with the worker but the queue and the tables.
"""
