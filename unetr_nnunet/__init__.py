"""UNETR, and a modified UNETR, inside nnU-Net v2, for multi-organ segmentation of abdominal CT."""

__version__ = "0.1.0"
