"""Where the weights are that come with the project."""

from pathlib import Path

MODEL_FOLDERS = (Path("models/emoji"), Path(__file__).resolve().parents[2] / "models" / "emoji")


def default_model() -> Path:
    """The emoji cascade of the repository, wherever the command is called from."""
    return next((folder for folder in MODEL_FOLDERS if folder.is_dir()), MODEL_FOLDERS[0])
