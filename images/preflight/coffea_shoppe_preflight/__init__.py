"""Says for each component of a facility whether it works; if not, why, and the remedy.

It reads the cluster's objects and connects to the services as their clients do.  It does not use
the facility's own API, which may be what is broken.
"""
