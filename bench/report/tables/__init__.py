"""Tables of every kind of study."""
