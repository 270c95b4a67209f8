"""Links a pseudo terminal to pipes, because Node has no call that opens one.

stdin -> the program that opened the terminal, stdout <- that program. Descriptor 3 gets lines of text: first
`path <name>`, then `lines <dtr> <rts>` for each change that arrives in the FIFO of the first argument (nothing, without
one). The terminal's own side stays open here, so that it outlives the programs that use it. Ends when stdin ends.
"""
import os
import pty
import selectors
import sys
import tty

master, slave = pty.openpty()
tty.setraw(slave)
lines = os.open(sys.argv[1], os.O_RDWR) if len(sys.argv) > 1 else None
os.write(3, b"path %s\n" % os.ttyname(slave).encode())

selector = selectors.DefaultSelector()
selector.register(0, selectors.EVENT_READ)
selector.register(master, selectors.EVENT_READ)
if lines is not None:
    selector.register(lines, selectors.EVENT_READ)


def write_all(to, data):
    while data:
        data = data[os.write(to, data):]


while True:
    for key, _ in selector.select():
        data = os.read(key.fd, 65536)
        if key.fd == 0:
            if not data:
                sys.exit(0)
            write_all(master, data)
        elif key.fd == master:
            write_all(1, data)
        else:
            write_all(3, data)
