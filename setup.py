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
import subprocess
import sysconfig
import tempfile
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What distributions harden their builds with: the name by which CFLAGS decide otherwise, and the
# flags, best first. The compiler may lack any of them.
HARDENING = [
    ("_FORTIFY_SOURCE", [["-U_FORTIFY_SOURCE", f"-D_FORTIFY_SOURCE={level}"] for level in (3, 2)]),
    ("stack-protector", [["-fstack-protector-strong"]]),
    ("stack-clash-protection", [["-fstack-clash-protection"]]),
    ("cf-protection", [["-fcf-protection"]]),
    ("branch-protection", [["-mbranch-protection=standard"]]),
    ("format-security", [["-Wformat", "-Werror=format-security"]]),
]
HARDENED_LINK = [["-Wl,-z,relro"], ["-Wl,-z,now"], ["-Wl,-z,noexecstack"]]


def switch(name: str) -> bool:
    """Whether IPV4BATCH_<name> is on."""
    return os.environ.get("IPV4BATCH_" + name, "0") not in ("", "0")


class BuildExt(build_ext):
    """Adds the flags that depend on the compiler, and leaves out what names this machine."""

    def takes(self, command: list[str], flags: list[str]) -> bool:
        """Whether a command of the compiler's takes flags without a warning."""
        with tempfile.TemporaryDirectory() as folder:
            output = ["-Werror", "-x", "c", "-", "-o", os.path.join(folder, "out")]
            done = subprocess.run(
                [*command, *flags, *output],
                input=b"#include <string.h>\nint none;\n",
                capture_output=True,
            )
        return done.returncode == 0

    def build_extensions(self) -> None:
        compile_so = [*self.compiler.compiler_so, "-O2", "-c"]
        chosen = " ".join(self.compiler.compiler_so)
        compile_args: list[str] = []
        link_args: list[str] = []
        if not (switch("DEBUG") or switch("SANITIZE") or switch("COVERAGE")):
            for name, alternatives in HARDENING:
                if name not in chosen:
                    takes = (flags for flags in alternatives if self.takes(compile_so, flags))
                    compile_args += next(takes, [])
            # Debug information tells where the sources lay, which is nobody's business.
            for path, name in ((os.getcwd(), "."), (sysconfig.get_path("include"), "python")):
                prefix = f"-ffile-prefix-map={path}={name}"
                compile_args += [prefix] if self.takes(compile_so, [prefix]) else []
        # The module needs no library of Python's, and so no path to it. LDFLAGS stay as they are.
        own = os.environ.get("LDFLAGS", "")
        linker = [f for f in self.compiler.linker_so if not f.startswith("-Wl,-rpath") or f in own]
        self.compiler.set_executables(linker_so=linker)
        for flags in HARDENED_LINK:
            link_args += flags if self.takes(linker, flags) else []
        for extension in self.extensions:
            extension.extra_compile_args += compile_args
            extension.extra_link_args += link_args
        super().build_extensions()


compile_args = ["-std=c11", "-fvisibility=hidden"]
link_args: list[str] = []
macros: list[tuple[str, str | None]] = []

# Whatever Python itself was built with.
if not any(flag.startswith("-O") for flag in os.environ.get("CFLAGS", "").split()):
    compile_args += ["-O2"]
if switch("DEBUG"):
    compile_args += ["-O0", "-g3", "-UNDEBUG"]
if switch("SANITIZE"):
    if os.environ["IPV4BATCH_SANITIZE"] == "thread":
        sanitizers = ["-fsanitize=thread"]
    else:
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    compile_args += [*sanitizers, "-fno-omit-frame-pointer", "-g", "-O1"]
    link_args += sanitizers
if switch("COVERAGE"):
    compile_args += ["--coverage", "-fprofile-update=atomic", "-O0"]
    link_args += ["--coverage"]
if switch("WERROR"):
    compile_args += ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
if switch("NO_MMSG"):
    macros.append(("IPV4BATCH_NO_MMSG", "1"))

setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        Extension(
            "ipv4batch._ipv4batch",
            sources=sorted(glob("csrc/**/*.c", recursive=True)),
            depends=sorted(glob("csrc/**/*.h", recursive=True)),
            include_dirs=["csrc"],
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ],
)
