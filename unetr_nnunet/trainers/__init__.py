"""nnUNetTrainer subclasses, and what their names mean."""
