"""python -m nmtr."""

from nmtr.cli import main

main()
