"""The paper's tables and figure, and what it should have compared with, from one command."""
