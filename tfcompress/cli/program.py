"""Running an absl program as its users expect it.

A wrong flag or a bad input ends in one line on standard error and exit code
1; `--debug` shows where it came from.

Flags belong to the process, but the short names that people know mean one
thing in one program and another in the next: a program says what its own stand
for, and which flags may be given by their place.
"""

import itertools
import re
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


def run(main, short_names=None, positional=()):
    """Parses the flags and calls `main()`; never returns.

    Args:
        main: function without arguments.
        short_names: dictionary from names that this program has for flags,
            without dashes, to the flags' own: `{"lr": "learning_rate"}` lets
            people write `-lr 0.1`, `-lr=0.1` and `--lr 0.1`. They go before
            flags of the same names.
        positional: names of flags whose values may be given without a name,
            in this order.
    """
    short_names = short_names or {}
    _list_in_help(flags.FLAGS, sys.argv[0])
    if _HELP & set(sys.argv):
        # absl itself has no -h.
        argv = ["--help" if a == "-h" else a for a in sys.argv]
        try:
            app.run(lambda argv: None, argv=argv)
        except SystemExit:
            # absl exits with 1 after help that was asked for.
            print(_names_in_help(short_names, positional), end="", flush=True)
            sys.exit(0)
    app.run(
        lambda argv: _guarded(main, argv),
        flags_parser=lambda argv: _parse_flags(argv, short_names, positional),
    )


def _names_in_help(short_names, positional):
    """What --help adds about a program's own names."""
    lines = []
    if positional:
        lines.append(f"arguments: {' '.join(f'[{p}]' for p in positional)}")
    if short_names:
        lines.append("names in this program:")
        lines += [f"  -{k} for --{v}" for k, v in sorted(short_names.items())]
    return "".join(f"{line}\n" for line in lines)


def _list_in_help(values, program):
    """Lets --help show the flags of these packages, not only the program's."""
    for module, defined in values.flags_by_module_dict().items():
        if module.split(".")[0] in _PACKAGES:
            for flag in defined:
                values.register_key_flag_for_module(program, flag)


def _parse_flags(argv, short_names, positional):
    try:
        argv = _spelled_out(argv, short_names, positional)
        return flags.FLAGS(argv, known_only=False)
    except flags.Error as error:
        _fail(_line(error))


def _spelled_out(argv, short_names, positional):
    """The arguments with the flags' own names, those without a name last."""
    named, unnamed, rest = [], [], iter(argv[1:])
    for argument in rest:
        if argument == "--":
            unnamed += rest
        elif not argument.startswith("-") or argument == "-":
            unnamed.append(argument)
        else:
            name, equals, value = argument.lstrip("-").partition("=")
            name = short_names.get(name, name)
            named.append(f"--{name}{equals}{value}")
            if not equals and _takes_value(name):
                # Whatever comes next: -0.5 is no flag.
                named += itertools.islice(rest, 1)
    for name in positional[: len(unnamed)]:
        if any(re.match(f"--{name}(=|$)", argument) for argument in named):
            raise flags.Error(
                f"--{name} is given twice, by its name and by its place"
            )
    named += [
        f"--{name}={value}"
        for name, value in zip(positional, unnamed, strict=False)
    ]
    return [argv[0], *named, "--", *unnamed[len(positional) :]]


def _takes_value(name):
    return name in flags.FLAGS and not flags.FLAGS[name].boolean


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
