"""Say in one line what a build lacks on this machine, and end with 1; silence and 0 if nothing.

Called with the C compiler's command. It must run on any Python, however old, to be able to say so.
"""

import os
import subprocess
import sys
import sysconfig


def missing(compiler):
    """Return what to install, as a line of text, or None."""
    found = "%d.%d" % sys.version_info[:2]
    if sys.version_info < (3, 11):
        return (
            "Python 3.11 or later is needed, %s is %s: install a newer one (Debian: python3), or "
            "name it with make PYTHON=..." % (sys.executable, found)
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "Python's venv and ensurepip are needed: install them (Debian: python3-venv)"
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return "Python's C headers are needed: install them (Debian: python3-dev)"
    try:
        with open(os.devnull, "w") as null:
            subprocess.check_call(compiler.split() + ["--version"], stdout=null, stderr=null)
    except (OSError, subprocess.CalledProcessError):
        return "a C compiler is needed, %r does not run: install one (Debian: gcc libc6-dev)" % (
            compiler,
        )
    return None


if __name__ == "__main__":
    problem = missing(sys.argv[1])
    if problem:
        sys.exit("ipv4batch: " + problem)
