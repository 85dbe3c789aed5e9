"""How good the videos are: the field's measures over folders of videos, and the paper's zero-shot protocols."""
