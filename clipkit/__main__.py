"""Entry point of `clipkit` and `python -m clipkit`; answers `--version` before anything else is loaded."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from clipkit import __version__

        sys.stdout.write(f"clipkit {__version__}\n")
        return
    from clipkit.cli.app import run

    run()


if __name__ == "__main__":
    main()
