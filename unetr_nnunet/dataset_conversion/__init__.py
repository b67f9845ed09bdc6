"""Convert downloads to nnU-Net's raw format, and check raw data sets that others made. No torch."""
