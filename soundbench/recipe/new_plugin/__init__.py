"""What `soundbench new-plugin` writes: the package of one component, from `templates/`."""
