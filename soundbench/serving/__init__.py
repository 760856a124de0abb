"""A trained model as a server: HTTP, a WebSocket and one page, over `soundbench.inference`."""
