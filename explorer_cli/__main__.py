"""`python -m explorer_cli`: the same as the console script `explorer`."""

from explorer_cli.main import main

if __name__ == "__main__":
    main()
