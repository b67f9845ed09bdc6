"""Studies: cross-validations from a data set to a report, on Snakemake; the demo is one of them."""
