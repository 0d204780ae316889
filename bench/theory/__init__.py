"""What MACH's papers state of the method itself, held beside arithmetic and draws; no data."""
