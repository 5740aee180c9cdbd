"""The programs, one small file each: `python -m tfcompress.cli.NAME --help`."""
