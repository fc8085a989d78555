"""Measurements that take longer than a test may: each is a make target of its own."""
