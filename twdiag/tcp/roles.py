"""Who takes part in a close, and who has to act next."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """Which part an end plays in closing a connection."""

    ACTIVE_CLOSER = "active closer"
    PASSIVE_CLOSER = "passive closer"
    BOTH = "both (simultaneous close)"
    NONE = "not closing"


class Turn(enum.Enum):
    """Who has to act so that a socket leaves its state."""

    LOCAL_APPLICATION = "the local application"
    PEER_APPLICATION = "the application at the other end"
    PEER_KERNEL = "the kernel at the other end"
    LOCAL_TIMER = "a timer of the local kernel"
    NOBODY = "nobody"
