"""``python -m signalcraft``."""

from signalcraft.cli import main

if __name__ == "__main__":
    main(prog_name="python -m signalcraft")
