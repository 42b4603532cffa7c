"""How a run ends early, with one line for the user."""


class InputError(Exception):
    """Bad input or options: exit status 2."""


class Interrupted(Exception):
    """Stopped by a signal; the same command continues: exit status 3."""


class Failure(Exception):
    """Anything else, such as a full disk: exit status 1."""
