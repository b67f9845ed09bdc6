"""Released weights: recognise and convert them, and start a training from them."""
