"""The components that ship with soundbench, each whole in its file."""
