"""What a step computes, as one module, and whether that is compiled."""
