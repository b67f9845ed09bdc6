"""Released weights: recognise, convert, start a training from them."""
