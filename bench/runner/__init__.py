"""Plans trials, starts a process for each, times rows in rounds, keeps what they give."""
