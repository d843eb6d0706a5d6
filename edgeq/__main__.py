"""`python -m edgeq`, which is what torchrun starts: the command line."""

import os

if "TORCHELASTIC_RUN_ID" in os.environ:
    # Where a process dies, torch warns with a stack of C++ in each of the others; one line of ours says it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from edgeq.cli import main

main()
