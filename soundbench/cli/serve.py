"""`soundbench serve`: answer requests over HTTP with a trained model."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from soundbench import limits
from soundbench.cli import options, output
from soundbench.messages import printable

# The environment variable with the token that clients must send.
TOKEN = "SOUNDBENCH_TOKEN"
_LOOPBACK = ("127.", "::1")
# Files that may be open: each connection is one, and each sound that arrives.
_FILES = 4096


@click.command()
@options.model("model")
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Address to listen on; 0.0.0.0 for all of this machine. Default: 127.0.0.1, which only this machine reaches.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    metavar="N",
    help="Port to listen on; 0 for any that is free. Default: 8000.",
)
@click.option(
    "--max-mb",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=100.0,
    metavar="MB",
    help="Refuse requests with more than so many million bytes. Default: 100.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(0, min_open=True),
    default=3600.0,
    metavar="SECONDS",
    help="Refuse longer sound. Default: 3600.",
)
@click.option(
    "--queue",
    type=click.IntRange(64, 100_000),
    default=128,
    metavar="N",
    help="Refuse requests when so many are waiting, at least 64. Default: 128.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86400, min_open=True),
    default=60.0,
    metavar="SECONDS",
    help="Time for a request to arrive, and again for its answer. Default: 60.",
)
@options.device()
@options.trust_code
@options.accept_changes
def command(
    model: str,
    host: str,
    port: int,
    max_mb: float,
    max_seconds: float,
    queue: int,
    timeout: float,
    device: str,
    trust_code: bool,
    accept_changes: bool,
) -> None:
    """Answer requests over HTTP with a trained MODEL.

    MODEL is a run directory, its model/ folder, an ONNX file of soundbench export, or a name of soundbench models. POST
    a sound file to /predict or /events, open / in a browser. If the environment has SOUNDBENCH_TOKEN, clients must send
    it as a bearer token. SIGTERM and Ctrl-C let what is running finish.
    """
    from soundbench.errors import CallError

    _require()
    token = os.environ.get(TOKEN)
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
        raise CallError(f"{TOKEN} must be of printable ASCII characters, and not empty; unset it to need no token")
    with _bound(host, port) as listener:  # before torch is imported and the model loaded, which take seconds
        from soundbench.cli.process import own_process
        from soundbench.inference.loading import load
        from soundbench.inference.many_files import model_digest
        from soundbench.model.named.names import model_path
        from soundbench.serving.refusals import Limits
        from soundbench.serving.server import serve

        own_process(device)
        limits.raise_of_process("NOFILE", _FILES)
        path = model_path(model)
        with ThreadPoolExecutor(1) as thread:
            # GNU OpenMP keeps threads for each thread that computes, until it ends, and once there are more than cores,
            # those that wait for each other sleep: were the model loaded here, scoring would take twice as long.
            loading = thread.submit(load, path, device=device, trust_code=trust_code, accept_changes=accept_changes)
            classifier = loading.result()
        card = {"model": printable(_name(model)), "digest": model_digest(path), "soundbench": _version()}
        address, own_port = listener.getsockname()[:2]

        def started() -> None:
            shown = f"[{address}]" if ":" in address else address
            output.result(f"http://{shown}:{own_port}/")
            if token is None and not address.startswith(_LOOPBACK):
                output.say(f"anybody who reaches {shown} can use this server; set {TOKEN} to need a token")

        serve(classifier, card, listener, Limits(round(max_mb * 1e6), max_seconds, queue, timeout), token, started)


def _require() -> None:
    """Import the libraries of the extra.

    Raises:
        NotInstalled: one is missing.
    """
    from soundbench.errors import NotInstalled

    try:
        for name in ("prometheus_client", "python_multipart", "starlette", "uvicorn", "websockets"):
            import_module(name)
    except ModuleNotFoundError as error:
        sentence = f'serve needs {error.name}, which is not installed: pip install "soundbench[serve]"'
        raise NotInstalled(sentence) from None


def _bound(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet.

    Raises:
        CallError: there is no such address, or it cannot be had.
    """
    from soundbench.errors import CallError

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CallError(f"--host {printable(host)}: {getattr(error, 'strerror', None) or error}") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        hint = "; choose another port, or 0 for any that is free" if port else ""
        place = f"--host {printable(host)} --port {port}"
        raise CallError(f"{place}: {(error.strerror or str(error)).lower()}{hint}") from None
    made.set_inheritable(False)
    return made


def _name(model: str) -> str:
    """The name of a run, of which the folder `model/` may be given."""
    folder = Path(model).resolve()
    return (folder.parent.name if folder.name == "model" else "") or folder.name


def _version() -> str:
    try:
        return version("soundbench")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
