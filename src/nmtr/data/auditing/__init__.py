"""The audit's figures, its look at held-out pairs, and how both are put in words and tables."""
