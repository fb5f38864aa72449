"""The simulated shop: its true world, how it is stocked, and the truth that is kept of it."""
