"""`python -m edgeq`, which is what torchrun starts: the command line."""

from edgeq.cli import main

main()
