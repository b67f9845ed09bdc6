"""The fast predictor: read a scan, run the network, bring the mask back to the scan."""
