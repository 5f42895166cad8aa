"""``python -m signalcraft``."""

from signalcraft import logs
from signalcraft.cli.main import main

if __name__ == "__main__":
    logs.configure("WARNING", "console")  # a line for each delivery is for the worker; a command sums up
    main(prog_name="python -m signalcraft")
