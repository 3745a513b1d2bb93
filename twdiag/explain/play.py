"""Plays a story through the handshake model: every event is a legal transition or an error.

The two ends are peers with sequence numbers; every segment is computed from them.  A story is a
function that calls applications, delivers, loses, delays and repeats segments; what comes out is a
list of steps, each with the state of both ends after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from twdiag.explain.diagram import Arrow, Chart, ChartRow, ChartSide, Crossing, Fate, Note, Pause
from twdiag.explain.steps import TAKES_A_NUMBER, IllegalStep, Move, Packet, StoryStep
from twdiag.tcp import State
from twdiag.tcp.segments import Event, Segment
from twdiag.tcp.transitions import transition

WINDOW: Final = 65535
"""The receive window of both ends: what a header without window scaling can say."""

_SENDS_DATA: Final = (State.ESTABLISHED, State.CLOSE_WAIT)
_TAKES_DATA: Final = (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2)
_AWAITS_ACK_OF_FIN: Final = (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK)
_HAS_THE_FIN: Final = (State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK)


@dataclass(slots=True)
class _End:
    """What one end knows.

    `next` is the number it sends next, `acknowledged` how far the peer has confirmed, `received`
    the number it expects next (None before the peer's SYN), `ahead` what came out of order.
    """

    state: State | None
    next: int
    acknowledged: int
    received: int | None = None
    ahead: dict[int, int] = field(default_factory=dict)


class StoryPlay:
    """A stage with two ends, on which a story is played; `steps` is what happened so far.

    `first` is the state of both ends before the first step.
    """

    def __init__(self, left: str, right: str) -> None:
        self.names = {ChartSide.LEFT: left, ChartSide.RIGHT: right}
        self.steps: list[StoryStep] = []
        self._ends = {side: _End(State.CLOSE, 0, 0) for side in ChartSide}
        self.first: tuple[State | None, State | None] = (State.CLOSE, State.CLOSE)
        self._moves: list[Move] = []
        self._sent = 0
        self._under_way: dict[int, Packet] = {}
        self._late: set[int] = set()

    # Setting the stage.

    def listening(self, side: ChartSide, *, initial: int) -> None:
        """Let one end listen from the start; `initial` is the number its next SYN will carry."""
        self._ends[side] = _End(State.LISTEN, initial, initial)
        self._remember_start()

    def ready(self, side: ChartSide, *, initial: int) -> None:
        """Give a closed end the number that its next SYN will carry."""
        self._ends[side] = _End(State.CLOSE, initial, initial)
        self._remember_start()

    def established(self, *, left: int, right: int) -> None:
        """Begin with an open connection; `left` and `right` are the next numbers to send."""
        self._ends[ChartSide.LEFT] = _End(State.ESTABLISHED, left, left, right)
        self._ends[ChartSide.RIGHT] = _End(State.ESTABLISHED, right, right, left)
        self._remember_start()

    def _remember_start(self) -> None:
        if self.steps:
            raise IllegalStep("the stage is set before the first step")
        self.first = self.states

    # What applications and timers do.

    def call(self, side: ChartSide, event: Event, says: str, why: str = "") -> Packet:
        """Let an application do something that sends a segment, and return the segment."""
        segment = self._move(side, event)
        if segment is None:
            raise IllegalStep(f"{event.value}: nothing is sent")
        packet = self._send(side, segment)
        self._step(Note(says, side), why)
        return packet

    def happen(self, side: ChartSide, event: Event, says: str, why: str = "") -> None:
        """Let something happen at one end that sends no segment: a call, or a timer."""
        if self._move(side, event) is not None:
            raise IllegalStep(f"{event.value}: a segment is sent, use call()")
        self._step(Note(says, side), why)

    def wait(self, says: str, event: Event, *sides: ChartSide, why: str = "") -> None:
        """Let time pass until a timer runs out, at one end or at both."""
        if any(self._move(side, event) is not None for side in sides):
            raise IllegalStep(f"{event.value}: a segment is sent")
        self._step(Pause(says), why)

    def write(self, side: ChartSide, length: int, says: str = "", why: str = "") -> Packet:
        """Let an application send data."""
        end = self._ends[side]
        if end.state not in _SENDS_DATA:
            raise IllegalStep(f"{end.state} cannot send data")
        packet = self._packet(side, Segment.ACK, end.next, end.received, length)
        end.next += length
        if says:
            self._step(Note(says, side), why)
        return packet

    def vanish(self, side: ChartSide, says: str, why: str = "") -> None:
        """Let one end lose its power or its network."""
        self._ends[side].state = None
        self._step(Note(says, side), why)

    def boot(self, side: ChartSide, says: str, *, initial: int, why: str = "") -> None:
        """Let a vanished end come back, knowing nothing of its connections."""
        if self._ends[side].state is not None:
            raise IllegalStep("only a vanished end can boot")
        self._ends[side] = _End(State.CLOSE, initial, initial)
        self._step(Note(says, side), why)

    def renew(self, side: ChartSide, *, initial: int) -> None:
        """Give a closed end the number that the next connection on these ports begins with."""
        if self._ends[side].state is not State.CLOSE:
            raise IllegalStep("a connection must be closed before the next one")
        self._ends[side] = _End(State.CLOSE, initial, initial)

    def note(self, says: str, why: str = "", side: ChartSide | None = None) -> None:
        """Say something without anything happening."""
        self._step(Note(says, side), why)

    def pause(self, says: str, why: str = "") -> None:
        """Let time pass without anything happening."""
        self._step(Pause(says), why)

    # What becomes of segments.

    def arrive(self, packet: Packet, why: str = "") -> Packet | None:
        """Deliver a segment and return the one that the receiver sends back, if any."""
        fate = Fate.LATE if packet.number in self._late else Fate.ARRIVES
        reply = self._receive(self._take(packet))
        self._step(Arrow(packet.sender, str(packet), fate), why, packet)
        return reply

    def refuse(self, packet: Packet, why: str = "") -> Packet:
        """Deliver data to an end whose application has closed, and return the RST it draws."""
        side = packet.sender.other
        self._take(packet)
        self._move(side, Event.ABORT)
        self._step(Arrow(packet.sender, str(packet)), why, packet)
        return self._reset(packet, of=side)

    def answer(self, packet: Packet, why: str = "") -> Packet:
        """Deliver a segment that must be answered, and return the answer."""
        reply = self.arrive(packet, why)
        if reply is None:
            raise IllegalStep(f"nothing answers {packet}")
        return reply

    def cross(self, left: Packet, right: Packet, why: str = "") -> tuple[Packet, Packet]:
        """Deliver two segments that pass each other, and return both answers."""
        from_left = self._receive(self._take(right))
        from_right = self._receive(self._take(left))
        self._step(Crossing(str(left), str(right)), why, left, right)
        if from_left is None or from_right is None:
            raise IllegalStep("crossing segments must both be answered")
        return from_left, from_right

    def finish_crossing(self, left: Packet, right: Packet, why: str = "") -> None:
        """Deliver two segments that pass each other and are not answered."""
        for packet in (left, right):
            if self._receive(self._take(packet)) is not None:
                raise IllegalStep(f"{packet} is answered")
        self._step(Crossing(str(left), str(right)), why, left, right)

    def lose(self, packet: Packet, why: str = "") -> None:
        """Let the network lose a segment."""
        self._take(packet)
        self._step(Arrow(packet.sender, str(packet), Fate.LOST), why, packet)

    def delay(self, packet: Packet, why: str = "") -> None:
        """Let the network keep a segment for later."""
        self._late.add(packet.number)
        self._step(Arrow(packet.sender, str(packet), Fate.DELAYED), why, packet)

    def withhold(self, packet: Packet) -> None:
        """Let a delayed ACK not be sent, because the next segment of its sender says the same."""
        if packet.segment is not Segment.ACK or packet.number != self._sent:
            raise IllegalStep(f"{packet} must be sent")
        self._take(packet)
        self._sent -= 1

    def resend(self, packet: Packet) -> Packet:
        """Return a segment that its sender sends once more because nothing acknowledged it."""
        end = self._ends[packet.sender]
        if end.state is None or end.acknowledged >= packet.end:
            raise IllegalStep(f"nobody would resend {packet}")
        self._sent += 1
        again = replace(packet, number=self._sent, remark="resent")
        self._under_way[again.number] = again
        return again

    # The machinery.

    @property
    def states(self) -> tuple[State | None, State | None]:
        """The state of both ends now."""
        return self._ends[ChartSide.LEFT].state, self._ends[ChartSide.RIGHT].state

    def states_after(self, steps: int) -> tuple[State | None, State | None]:
        """Return the state of both ends after so many steps."""
        if not steps:
            return self.first
        return self.steps[steps - 1].left, self.steps[steps - 1].right

    def chart(self, upto: int | None = None) -> Chart:
        """Return the drawing of the first steps, by default of all."""
        rows = [ChartRow(Note(""), *self.first)]
        rows += [ChartRow(step.what, step.left, step.right) for step in self.steps[:upto]]
        return Chart(self.names[ChartSide.LEFT], self.names[ChartSide.RIGHT], tuple(rows))

    def _step(self, what: Arrow | Crossing | Note | Pause, why: str, *packets: Packet) -> None:
        moves, self._moves = tuple(self._moves), []
        self.steps.append(StoryStep(what, moves, packets, *self.states, why))

    def _move(self, side: ChartSide, event: Event) -> Segment | None:
        """Make a transition and return the segment that it sends."""
        end = self._ends[side]
        move = None if end.state is None else transition(end.state, event)
        if end.state is None or move is None or not move.linux:
            raise IllegalStep(f"{self.names[side]} in {end.state}: {event.value}")
        self._moves.append(Move(side, end.state, event, move.after))
        end.state = move.after
        return move.sends

    def _packet(
        self, side: ChartSide, segment: Segment, seq: int, ack: int | None, length: int = 0
    ) -> Packet:
        self._sent += 1
        packet = Packet(self._sent, side, segment, seq, ack, length)
        self._under_way[packet.number] = packet
        return packet

    def _send(self, side: ChartSide, segment: Segment) -> Packet:
        """Return the segment that an end sends of its own accord."""
        end = self._ends[side]
        ack = None if segment is Segment.SYN else end.received
        packet = self._packet(side, segment, end.next, ack)
        end.next = packet.end
        return packet

    def _reset(self, packet: Packet, *, of: ChartSide) -> Packet:
        """Return the RST that answers a segment (RFC 9293 section 3.10.7.1)."""
        if packet.ack is None:
            return self._packet(of, Segment.RST, 0, packet.end)
        return self._packet(of, Segment.RST, packet.ack, None)

    def _take(self, packet: Packet) -> Packet:
        if self._under_way.pop(packet.number, None) is None:
            raise IllegalStep(f"{packet} is not under way")
        return packet

    def _receive(self, packet: Packet) -> Packet | None:
        """Let the other end have a segment, and return its answer."""
        side = packet.sender.other
        end = self._ends[side]
        if end.state is None:
            return None
        if packet.segment is Segment.RST:
            self._receive_rst(packet, side)
            return None
        event = self._event(packet, side)
        if event is None:
            return self._receive_data(packet, side)
        if event is Event.RECEIVE_SYN and end.state is State.TIME_WAIT:
            if packet.seq <= (end.received or 0):
                return self._doubt(side)
            end = self._reopen(side)
        challenged = event is Event.RECEIVE_SYN and end.received is not None
        sends = self._move(side, event)
        if sends is Segment.RST:
            return self._reset(packet, of=side)
        if packet.ack is not None:
            end.acknowledged = max(end.acknowledged, packet.ack)
        # A challenge ACK says what its sender expects; the SYN it answers counts for nothing.
        if packet.segment in TAKES_A_NUMBER and not (challenged and sends is Segment.ACK):
            if end.received is not None and packet.seq > end.received:
                raise IllegalStep(f"{packet} arrives before what it follows")
            end.received = max(end.received or 0, packet.end)
        return None if sends is None else self._send(side, sends)

    def _doubt(self, side: ChartSide) -> Packet:
        """Return the ACK by which a TIME_WAIT answers a SYN that could be an old one."""
        end = self._ends[side]
        self._moves.append(Move(side, State.TIME_WAIT, Event.RECEIVE_SYN, State.TIME_WAIT))
        return self._packet(side, Segment.ACK, end.next, end.received)

    def _reopen(self, side: ChartSide) -> _End:
        """Return an end whose TIME_WAIT gives way to a SYN that is provably new (RFC 6191)."""
        old = self._ends[side]
        # tcp_timewait_state_process() in net/ipv4/tcp_minisocks.c starts beyond any old number.
        initial = old.next + WINDOW + 2
        self._ends[side] = _End(old.state, initial, initial)
        return self._ends[side]

    def _event(self, packet: Packet, side: ChartSide) -> Event | None:
        """Return which event of the model a segment is for an end; None: data or a plain ACK."""
        end = self._ends[side]
        acknowledges_all = packet.ack == end.next
        if packet.segment is Segment.SYN:
            return Event.RECEIVE_SYN
        if packet.segment is Segment.SYN_ACK:
            return Event.RECEIVE_SYN_ACK
        if packet.segment is Segment.FIN:
            if end.state is State.FIN_WAIT1 and acknowledges_all:
                return Event.RECEIVE_FIN_AND_ACK_OF_FIN
            return Event.RECEIVE_FIN
        if end.state is State.SYN_RECV and acknowledges_all:
            return Event.RECEIVE_ACK_OF_SYN
        if end.state in _AWAITS_ACK_OF_FIN and acknowledges_all and not packet.length:
            return Event.RECEIVE_ACK_OF_FIN
        if end.state in (State.CLOSE, State.LISTEN) or (
            end.state is State.SYN_SENT and not acknowledges_all
        ):
            return Event.RECEIVE_UNACCEPTABLE_ACK
        return None

    def _receive_rst(self, packet: Packet, side: ChartSide) -> None:
        """Let a RST end a connection; a closed end ignores it, and so does one it does not fit."""
        end = self._ends[side]
        if end.state is State.CLOSE:
            return
        expected = end.received or 0
        if end.state is State.SYN_SENT:
            fits = packet.ack == end.next
        else:
            # tcp_reset_check() in net/ipv4/tcp_input.c: a RST that crossed the ACK of a FIN.
            crossed = end.state in _HAS_THE_FIN and packet.seq == expected - 1
            fits = packet.seq == expected or crossed
        if fits:
            self._move(side, Event.RECEIVE_RST)

    def _receive_data(self, packet: Packet, side: ChartSide) -> Packet | None:
        """Let an end have data or an ACK that changes no state, and return its ACK of the data."""
        end = self._ends[side]
        if packet.ack is not None:
            # RFC 5961 section 5: an old segment's acknowledgment must be plausible too.
            if not end.acknowledged - WINDOW <= packet.ack <= end.next:
                raise IllegalStep(f"{packet} acknowledges what was never sent")
            end.acknowledged = max(end.acknowledged, packet.ack)
        if not packet.length or end.received is None:
            return None
        if end.state in _TAKES_DATA and end.received <= packet.seq < end.received + WINDOW:
            end.ahead[packet.seq] = packet.end
            while end.received in end.ahead:
                end.received = end.ahead.pop(end.received)
        return self._packet(side, Segment.ACK, end.next, end.received)
