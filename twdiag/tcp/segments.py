"""What can happen to one end of a connection, and the segments that pass between two."""

from __future__ import annotations

import enum


class Event(enum.Enum):
    """What can happen to one end: a call of its application, a segment, or a timer."""

    PASSIVE_OPEN = "the application calls listen()"
    ACTIVE_OPEN = "the application calls connect()"
    SEND = "the application sends on a listening socket"
    CLOSE = "the application closes"
    ABORT = "the application aborts"
    RECEIVE_SYN = "a SYN arrives"
    RECEIVE_SYN_ACK = "a SYN+ACK arrives"
    RECEIVE_ACK_OF_SYN = "the ACK of the SYN arrives"
    RECEIVE_ACK_OF_FIN = "the ACK of the FIN arrives"
    RECEIVE_FIN = "a FIN arrives"
    RECEIVE_FIN_AND_ACK_OF_FIN = "a FIN arrives that also acknowledges this end's FIN"
    RECEIVE_UNACCEPTABLE_ACK = "an ACK arrives of something never sent"
    RECEIVE_RST = "a RST arrives"
    RETRIES_EXHAUSTED = "the last retransmission stays unanswered"
    KEEPALIVE_EXHAUSTED = "the last keepalive probe stays unanswered"
    FIN_WAIT2_EXPIRES = "the orphan's FIN_WAIT2 timer runs out"
    TIME_WAIT_EXPIRES = "the 2MSL timer runs out"


class Segment(enum.Enum):
    """A segment as far as the state machine is concerned: its control bits.

    A FIN of an established connection always carries the ACK bit too (RFC 9293 section 3.10.4).
    """

    SYN = "SYN"
    SYN_ACK = "SYN,ACK"
    ACK = "ACK"
    FIN = "FIN,ACK"
    RST = "RST"
