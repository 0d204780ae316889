"""Commands, and what a person sees while they run."""
