"""Speed as ratios, measured in one run on one machine: `make bench`. See docs/performance.md for the rows."""
