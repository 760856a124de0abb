"""`soundbench completion`: what lets a shell complete commands, options and the names of recipes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from soundbench.cli import output

# What click looks for in the environment when the shell asks.
_VARIABLE = "_SOUNDBENCH_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    r"""Print what lets SHELL complete commands, options and names of recipes; the shell reads it when it starts.

    \b
    bash: echo 'eval "$(soundbench completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(soundbench completion zsh)"' >> ~/.zshrc
    fish: soundbench completion fish > ~/.config/fish/completions/soundbench.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None  # click has all three
    output.result(completion(ctx.find_root().command, {}, "soundbench", _VARIABLE).source())
