"""What all trained methods share: encoder, losses, optimisers, the Lightning module."""
