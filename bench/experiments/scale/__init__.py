"""Models at the papers' largest sizes: what they need in memory and time where they can be had."""
