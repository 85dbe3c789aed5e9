"""People's votes on two folders of videos (section 4.1): pairs, the store, the statistics, the page, 300 prompts."""
