"""Plans for nnU-Net: token, patch and batch for a memory target; model folders of released weights."""
