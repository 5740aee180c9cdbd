"""What a rank policy raises where it finds nothing to compress."""


class LeftAlone(Exception):
    """The policy leaves this kernel as it is; the message says why.

    Not an error of the user's: plans and reports print the reason beside the
    layer and go on.
    """
