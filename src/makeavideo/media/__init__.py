"""Pictures and videos as people have them; nothing here knows a network."""
