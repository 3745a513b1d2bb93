"""Private network namespaces: making one, its loopback device, and a cable to a second one."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time
from pathlib import Path
from typing import Final

from twdiag.errors import SourceRefused
from twdiag.lab import kernel

MAIN_ADDRESS: Final = "10.77.0.1"
PEER_ADDRESS: Final = "10.77.0.2"

_CABLE: Final = "cable"
# Any number that the other end will not get.  Two ends of the same index look like a device that
# stands alone, whose carrier the kernel reports up to a second late (net/core/link_watch.c).
_CABLE_INDEX: Final = 1077
_PREFIX_LENGTH: Final = 24
_CARRIER_DEADLINE: Final = 5.0

_SIOCGIFFLAGS: Final = 0x8913  # include/uapi/linux/sockios.h
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1  # include/uapi/linux/if.h
_IFF_RUNNING: Final = 0x40
_IFREQ: Final = struct.Struct("16sh22x")


def enter_private() -> None:
    """Move this process into a new network namespace with a working loopback device.

    Without the right to make one, a user namespace in which the user is root gives it.
    """
    try:
        _unshare()
    except OSError as error:
        raise SourceRefused(
            f"the kernel refuses a private network namespace ({os.strerror(error.errno or 0)})",
            "run the lab as root, or allow user namespaces: see the sysctls "
            "user.max_user_namespaces, kernel.unprivileged_userns_clone and "
            "kernel.apparmor_restrict_unprivileged_userns",
        ) from error
    _set_up("lo")


def _unshare() -> None:
    if os.geteuid() == 0:
        try:
            return kernel.unshare(kernel.CLONE_NEWNET)
        except OSError as error:
            # Root of a container may lack CAP_SYS_ADMIN and still have user namespaces.
            if error.errno != errno.EPERM:
                raise
    user, group = os.geteuid(), os.getegid()
    kernel.own_proc_files()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    # gid_map may only be written once setgroups is denied: user_namespaces(7).
    Path("/proc/self/setgroups").write_bytes(b"deny")
    Path("/proc/self/uid_map").write_bytes(b"0 %d 1" % user)
    Path("/proc/self/gid_map").write_bytes(b"0 %d 1" % group)
    return None


def connect_peer() -> int:
    """Make a second namespace at the other end of a veth pair; return its descriptor.

    It has no name: it ends with its last process and descriptor.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    kernel.unshare(kernel.CLONE_NEWNET)
    peer = os.open("/proc/self/ns/net", os.O_RDONLY)
    _set_up("lo")
    kernel.setns(home)
    _plug_in(MAIN_ADDRESS, other_end=peer)
    kernel.setns(peer)
    _plug_in(PEER_ADDRESS)
    # A packet sent before the carrier is up is lost, and a lost SYN costs a second.
    _await_carrier()
    kernel.setns(home)
    os.close(home)
    _await_carrier()
    return peer


def _plug_in(address: str, *, other_end: int | None = None) -> None:
    """Give this end of the veth pair its address; make the pair first where it is missing."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        if other_end is not None:
            far = {"ifname": _CABLE, "net_ns_fd": other_end}
            route.link("add", ifname=_CABLE, kind="veth", index=_CABLE_INDEX, peer=far)
        (index,) = route.link_lookup(ifname=_CABLE)
        route.addr("add", index=index, address=address, prefixlen=_PREFIX_LENGTH)
        route.link("set", index=index, state="up")


def _await_carrier() -> None:
    deadline = time.monotonic() + _CARRIER_DEADLINE
    while not _flags(_CABLE) & _IFF_RUNNING and time.monotonic() < deadline:
        time.sleep(0.001)


def _set_up(device: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = _IFREQ.pack(device.encode(), _flags(device) | _IFF_UP)
        fcntl.ioctl(handle, _SIOCSIFFLAGS, request)


def _flags(device: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = _IFREQ.pack(device.encode(), 0)
        answer = fcntl.ioctl(handle, _SIOCGIFFLAGS, request)
    flags: int = _IFREQ.unpack(answer)[1]
    return flags & 0xFFFF
