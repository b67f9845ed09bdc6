"""Workflows that chain the other rooms: the demo, cross-validations."""
