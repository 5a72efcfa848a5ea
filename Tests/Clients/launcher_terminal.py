"""A launcher as a job of a terminal: stopped, continued and interrupted with its program.

  launcher_terminal.py LAUNCHER...      a command that takes a program and its arguments
"""

import os
import pty
import signal
import sys
import time


def wait(child, flags=0):
    """The status of a change that comes within ten seconds."""
    for _ in range(1000):
        pid, status = os.waitpid(child, flags | os.WNOHANG)
        if pid:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    sys.exit("FAILED terminal: no change of state")


def read_line(terminal):
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(terminal, 1)
    return line.decode().strip()


child, terminal = pty.fork()
if child == 0:
    program = ["sh", "-c", "echo ready; while read line; do echo got $line; done"]
    os.execvp(sys.argv[1], sys.argv[1:] + program)

assert read_line(terminal) == "ready"
os.write(terminal, b"\x1a")  # ^Z
assert os.WIFSTOPPED(wait(child, os.WUNTRACED)), "^Z did not stop the job"
os.kill(child, signal.SIGCONT)
# A shell would continue the whole job; the launcher passes it on.
assert os.WIFCONTINUED(wait(child, os.WCONTINUED)), "the launcher did not continue"
os.write(terminal, b"one\n")
lines = [read_line(terminal) for _ in range(2)]
assert lines[-1] == "got one", lines
os.write(terminal, b"\x03")  # ^C
status = wait(child)
assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT, status
print("ok terminal")
