"""The command line, `v2f`: one file per group of commands, each importing what it runs only when it runs."""

import sys

try:
    from v2f_engine.cli.main import main
except KeyboardInterrupt:  # reading the commands takes 0.1 s, before which nothing else of ours is loaded
    print("stopped by SIGINT; nothing was begun.", file=sys.stderr)
    if "--json" in sys.argv:
        print('{"command": "", "status": "stopped", "message": "stopped by SIGINT; nothing was begun."}')
    raise SystemExit(130) from None

__all__ = ["main"]
