"""Networks that are programs: TorchScript files, the only form in which some are published, run if they are trusted."""

import os
from pathlib import Path

from ..errors import UserError


def check_trusted(network: str | Path, trust: bool) -> None:
    """Raises UserError where a network is a file, whose code will run, and nobody has said that it is trusted.

    Also where there is no such file or folder; `emoji` is the included one.
    """
    if str(network) != "emoji" and not os.path.exists(network):
        raise UserError(f"There is no network {network}: give the file or folder of one that you fetched.")
    if Path(network).is_file() and not trust:
        raise UserError(
            f"{network} is a program (TorchScript), and whoever made it decides what it does on this machine: "
            "add --trust if you trust where it comes from, or take a network that is a folder."
        )
