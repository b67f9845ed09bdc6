"""Networks and their presets: torch only, no nnU-Net, no image files."""
