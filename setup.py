"""The C extension; everything else about the package stands in pyproject.toml.

Switches from the environment, on when they are 1:

    IPV4BATCH_DEBUG     no optimisation, all debug information, assertions
    IPV4BATCH_SANITIZE  AddressSanitizer and UndefinedBehaviorSanitizer; or "thread" for
                        ThreadSanitizer, in a Python that has it
    IPV4BATCH_COVERAGE  gcov counters
    IPV4BATCH_WERROR    every warning is an error (our own builds)
    IPV4BATCH_NO_MMSG   what systems other than Linux get: recvmsg, sendmsg and a pipe
"""

import os
from glob import glob

from setuptools import Extension, setup


def switch(name: str) -> bool:
    """Whether IPV4BATCH_<name> is on."""
    return os.environ.get("IPV4BATCH_" + name, "0") not in ("", "0")


# What distributions build with; -O2 is for Pythons that were built with less.
compile_args = ["-std=c11", "-O2", "-fvisibility=hidden", "-fstack-protector-strong"]
link_args = ["-Wl,-z,relro", "-Wl,-z,now"]
macros: list[tuple[str, str | None]] = []

if switch("DEBUG"):
    compile_args += ["-O0", "-g3", "-UNDEBUG"]
elif not switch("SANITIZE"):
    compile_args += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
if switch("SANITIZE"):
    if os.environ["IPV4BATCH_SANITIZE"] == "thread":
        sanitizers = ["-fsanitize=thread"]
    else:
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    compile_args += [*sanitizers, "-fno-omit-frame-pointer", "-g", "-O1"]
    link_args += sanitizers
if switch("COVERAGE"):
    compile_args += ["--coverage", "-O0"]
    link_args += ["--coverage"]
if switch("WERROR"):
    compile_args += ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
if switch("NO_MMSG"):
    macros.append(("IPV4BATCH_NO_MMSG", "1"))

setup(
    ext_modules=[
        Extension(
            "ipv4batch._ipv4batch",
            sources=sorted(glob("csrc/core/*.c") + glob("csrc/python/*.c")),
            depends=sorted(glob("csrc/*/*.h")),
            include_dirs=["csrc/core", "csrc/python"],
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ]
)
