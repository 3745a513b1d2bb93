"""The kernel floor: receive both socket dumps whole and look at nothing but their ends."""

import socket
import struct

NETLINK_SOCK_DIAG = 4
DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
DONE = struct.pack("=IH", 20, 3)  # nlmsg_len and nlmsg_type of the last message, which has an errno


def dump(family: int, buffer: bytearray) -> None:
    """Take one dump of every TCP socket of a family."""
    body = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
    head = struct.pack("=IHHII", 16 + len(body), 20, DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as channel:
        channel.sendto(head + body, (0, 0))
        while True:
            received = channel.recv_into(buffer)
            # The end comes alone or behind the last rows.
            if buffer[received - 20 : received - 14] == DONE:
                return


if __name__ == "__main__":
    space = bytearray(65536)
    dump(socket.AF_INET, space)
    dump(socket.AF_INET6, space)
