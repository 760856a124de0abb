"""What a run begins with: what the weights of `[init]` have `learnt` from."""
