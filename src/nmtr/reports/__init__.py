"""The report of a run, for people to look at: one page, made from its folder and its data."""
