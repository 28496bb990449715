"""The release gate: the AGC notebook through every service, proved by the services' counters."""
