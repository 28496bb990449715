"""The facility's dask-gateway: limits for each user, guarded dashboards, reasons of failures."""
