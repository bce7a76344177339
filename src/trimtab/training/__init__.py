"""Learning: from pairs of hidden states to a calibrated control vector."""
