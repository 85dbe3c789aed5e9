"""The included data set: emoji as concepts with words, pictures and clips, built from pinned npm packages."""
