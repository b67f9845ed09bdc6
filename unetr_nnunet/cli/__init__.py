"""One thin file per command; nothing imports this room."""
