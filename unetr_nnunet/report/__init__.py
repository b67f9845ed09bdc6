"""One self-contained HTML page from scored models. Numbers in, text out; no network, no torch."""
