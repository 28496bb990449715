"""Prometheus metrics of the object store, from versitygw's statsd metrics."""
