"""What nnU-Net leaves on disk: dataset.json, plans, splits, logs, summaries, checkpoints, folders."""
