"""The only place that knows how nnU-Net finds this package."""
