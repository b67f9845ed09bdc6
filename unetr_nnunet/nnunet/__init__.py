"""Readers of nnU-Net's files: dataset.json, plans, splits, logs, summaries, checkpoints, folders."""
