"""``python -m ntm`` is ``ntm``."""

from ntm.cli import main

if __name__ == "__main__":
    main()
