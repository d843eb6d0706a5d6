"""edgeq takes an audio classifier from training to a device and proves that it still works there."""
