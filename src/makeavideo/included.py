"""Where the weights are that come with the project."""

from importlib.util import find_spec
from pathlib import Path

MODEL_FOLDERS = (Path("models/emoji"), Path(__file__).resolve().parents[2] / "models" / "emoji")
PACKAGE = "makeavideo_emoji"
"""What packages/ makes of the weights: a package without code, whose folder is that of the pipeline."""


def default_model() -> Path:
    """The emoji cascade: that of the folder the command is called from, of the repository, or the installed one."""
    spec = find_spec(PACKAGE)
    installed = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
    folders = [folder for folder in (*MODEL_FOLDERS, *installed) if (folder / "model_index.json").is_file()]
    return folders[0] if folders else MODEL_FOLDERS[0]
