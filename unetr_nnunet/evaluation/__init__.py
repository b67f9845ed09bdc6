"""Metrics from label maps: numpy in, plain dicts out. No torch."""
