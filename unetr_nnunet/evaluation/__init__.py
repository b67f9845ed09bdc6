"""Metrics, protocols and statistics of label maps: files in, typed figures out. No torch."""
