"""Finds Python packages that no distribution has: tools/setup.sh installs those of tools/requirements.txt into a folder of the
user's, per version of Python, and use_installed() adds that folder to the places where Python looks, after all others."""

import os
import sys


def folder():
    """The folder tools/setup.sh installs into for this Python."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(data, "depthroute", "python%d.%d" % sys.version_info[:2])


def use_installed():
    if folder() not in sys.path:
        sys.path.append(folder())


def require(name, purpose):
    """The module `name`; without it the program ends with status 2 and a line that says how to get it."""
    use_installed()
    try:
        return __import__(name)
    except ImportError as error:
        program = os.path.basename(sys.argv[0])
        print(f"{program}: {purpose} needs the Python package {name} ({error}): run tools/setup.sh, or install it for "
              f"{sys.executable}", file=sys.stderr)
        sys.exit(2)
