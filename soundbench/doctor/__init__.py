"""`soundbench doctor`: what this machine has of all that soundbench can use; no network, no change to anything."""
