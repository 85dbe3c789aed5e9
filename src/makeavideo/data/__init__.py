"""Training data: captioned pictures and unlabelled clips, from folders and tars, each sample a function of its key."""
