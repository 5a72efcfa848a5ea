# SPDX-License-Identifier: Apache-2.0
"""The launcher as a job of a terminal: it is stopped, continued and interrupted together with its program.

  launcher_terminal.py LAUNCHER...      LAUNCHER is a command that takes a program and its arguments

A child process is a small shell with job control on a pseudo-terminal. This process types into the terminal.
"""

import os
import pty
import select
import signal
import sys

PROGRAM = ["sh", "-c", "echo ready; while read line; do echo got $line; done"]


def shell(command, report):
    """Runs `command` as the foreground job, and writes its wait status to `report`."""
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        # The test may run with signals ignored (by nohup, or as a background job), which a terminal's job does not.
        for sent in (signal.SIGTTOU, signal.SIGTSTP, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(sent, signal.SIG_DFL)
        os.execvp(command[0], command)
    _, status = os.waitpid(job, os.WUNTRACED)
    os.write(report, b"stopped\n" if os.WIFSTOPPED(status) else b"not stopped\n")
    os.killpg(job, signal.SIGCONT)
    _, status = os.waitpid(job, 0)
    text = f"signal {os.WTERMSIG(status)}\n" if os.WIFSIGNALED(status) else f"status {status}\n"
    os.write(report, text.encode())
    os._exit(0)


def read_line(descriptor):
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], 20)[0]:
            sys.exit(f"FAILED terminal: nothing after {line!r}")
        line += os.read(descriptor, 1)
    return line.decode().strip()


def expect(descriptor, text):
    while (line := read_line(descriptor)) != text:
        if "stopped" in line or "signal" in line or "status" in line:
            sys.exit(f"FAILED terminal: {line} instead of {text}")


reading, writing = os.pipe()
child, terminal = pty.fork()
if child == 0:
    shell(sys.argv[1:] + PROGRAM, writing)
expect(terminal, "ready")
os.write(terminal, b"\x1a")  # ^Z
expect(reading, "stopped")
os.write(terminal, b"one\n")
expect(terminal, "got one")
os.write(terminal, b"\x03")  # ^C
expect(reading, f"signal {int(signal.SIGINT)}")
os.waitpid(child, 0)
print("ok terminal")
