"""One loop for every stage of the cascade: recipes, stages, checkpoints, plans of several stages."""
