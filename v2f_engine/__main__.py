"""`python -m v2f_engine` is `v2f`: what torchrun needs to start it."""

from v2f_engine.cli import main

main()
