"""What an experiment is, and how its time, memory and load are measured."""
