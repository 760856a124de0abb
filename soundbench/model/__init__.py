"""What a model folder holds, and how it scores sound: assembly, network, windows, weights, the folder."""
