"""Which arm is better, said so that it may be looked at every day; docs/service.md has formulas."""
