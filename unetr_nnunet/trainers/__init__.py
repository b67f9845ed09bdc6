"""Subclasses of nnUNetTrainer, and the grammar of their names."""
