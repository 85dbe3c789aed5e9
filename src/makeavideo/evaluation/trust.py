"""Networks that are programs: TorchScript files, the only form in which some are published, run if they are trusted."""

from pathlib import Path

from ..errors import UserError


def check_trusted(network: str | Path, trust: bool) -> None:
    """Raises UserError where a network is a file, whose code will run, and nobody has said that it is trusted."""
    if Path(network).is_file() and not trust:
        raise UserError(
            f"{network} is a program (TorchScript), and whoever made it decides what it does on this machine: "
            "add --trust if you trust where it comes from, or take a network that is a folder."
        )
