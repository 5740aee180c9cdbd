"""Running an absl program as its users expect it.

A wrong flag or a bad input ends in one line on standard error and exit code
1; `--debug` shows where it came from.
"""

import sys

from absl import app, flags, logging

_HELP = frozenset(
    f"{dashes}{name}"
    for dashes in ("-", "--")
    for name in ("?", "help", "helpshort", "helpfull", "helpxml")
) | {"-h"}
_PACKAGES = ("tfcompress", "official_resnet")

_DEBUG = flags.DEFINE_bool(
    "debug", False, "Show the whole traceback of an error."
)


def run(main):
    """Parses the flags and calls `main()`; never returns."""
    _list_in_help(flags.FLAGS, sys.argv[0])
    if _HELP & set(sys.argv):
        # absl itself has no -h.
        argv = ["--help" if a == "-h" else a for a in sys.argv]
        try:
            app.run(lambda argv: None, argv=argv)
        except SystemExit:
            # absl exits with 1 after help that was asked for.
            sys.exit(0)
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse_flags)


def _list_in_help(values, program):
    """Lets --help show the flags of these packages, not only the program's."""
    for module, defined in values.flags_by_module_dict().items():
        if module.split(".")[0] in _PACKAGES:
            for flag in defined:
                values.register_key_flag_for_module(program, flag)


def _parse_flags(argv):
    try:
        return flags.FLAGS(argv, known_only=False)
    except flags.Error as error:
        _fail(_line(error))


def _guarded(main, argv):
    if len(argv) > 1:
        _fail(f"unexpected arguments: {' '.join(argv[1:])}")
    # The programs print what users want to read; TensorFlow's remarks are not.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        main()
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from the last checkpoint")
    except (
        ValueError,
        TypeError,
        OSError,
        ImportError,
        FloatingPointError,
    ) as error:
        if _DEBUG.value:
            raise
        _fail(_line(error))


def _line(error):
    return " ".join(str(error).split())


def _fail(message):
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(1)
