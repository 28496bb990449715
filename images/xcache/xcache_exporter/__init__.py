"""Prometheus metrics of an XRootD cache, from its monitoring stream."""
