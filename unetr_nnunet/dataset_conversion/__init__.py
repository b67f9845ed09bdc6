"""One file per data source; writes nnU-Net's raw format. No torch."""
