"""What is on disk: records, costs, budgets, provenance, locks."""
