//! The kernel's filters (classic BPF) on the packet sockets: what they let pass is all that wakes the speaker.

use herald_core::wire::{arp, ndp};
use socket2::SockFilter;

/// Longest frame that a Neighbour Discovery socket hands over; what is longer arrives cut, and is malformed.
const NDP_LENGTH: u32 = 2048;

/// `PACKET_HOST`, `PACKET_BROADCAST`, `PACKET_MULTICAST` are 0, 1, 2. Above lie frames for other hosts, which a
/// promiscuous link sees, and our own.
const FOR_US: Condition = Condition::word(ancillary(libc::SKF_AD_PKTTYPE), 0, 2);

/// That the part of a frame at `offset` lies between `low` and `high`.
struct Condition {
    size: u32,
    offset: u32,
    low: u32,
    high: u32,
}

impl Condition {
    const fn word(offset: u32, low: u32, high: u32) -> Self {
        Self { size: libc::BPF_W, offset, low, high }
    }

    /// That the frame is at least `length` bytes long, which are four or more.
    const fn to_the_end_of(length: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "frames have less than 2^32 bytes")]
        Self::word((length - 4) as u32, 0, u32::MAX)
    }

    const fn half(offset: u32, low: u32, high: u32) -> Self {
        Self { size: libc::BPF_H, offset, low, high }
    }

    const fn byte(offset: u32, low: u32, high: u32) -> Self {
        Self { size: libc::BPF_B, offset, low, high }
    }
}

/// Offset at which the kernel shows the field `field` of a frame's meta data.
const fn ancillary(field: i32) -> u32 {
    (libc::SKF_AD_OFF + field).cast_unsigned()
}

/// That the frame came in by the link `index` itself. A socket bound to a link also gets what arrives tagged for the
/// VLAN links on top of it, and an answer to that would go out on the wrong segment.
const fn on_link(index: u32) -> Condition {
    Condition::word(ancillary(libc::SKF_AD_IFINDEX), index, index)
}

/// Requests and replies for IPv4 on Ethernet that came in by the link `index`, to us or to all.
pub(super) fn arp(index: u32) -> Vec<SockFilter> {
    let conditions = [
        FOR_US,
        on_link(index),
        Condition::half(12, 0x0806, 0x0806),
        Condition::word(14, 0x0001_0800, 0x0001_0800),
        Condition::half(18, 0x0604, 0x0604),
        Condition::half(20, 1, 2),
        Condition::to_the_end_of(arp::FRAME),
    ];
    program(&conditions, u32::try_from(arp::FRAME).expect("a small constant"))
}

/// Neighbour solicitations and advertisements that no router forwarded and that came in by the link `index`.
pub(super) fn ndp(index: u32) -> Vec<SockFilter> {
    let conditions = [
        FOR_US,
        on_link(index),
        Condition::half(12, 0x86dd, 0x86dd),
        Condition::byte(20, 58, 58),
        Condition::byte(21, 255, 255),
        Condition::byte(54, 135, 136),
        Condition::byte(55, 0, 0),
        Condition::to_the_end_of(ndp::SHORTEST_FRAME),
    ];
    program(&conditions, NDP_LENGTH)
}

/// Hands over the first `length` bytes of a frame that meets all `conditions`, and nothing of any other. Reading
/// beyond the end of a frame refuses it.
fn program(conditions: &[Condition], length: u32) -> Vec<SockFilter> {
    const PER_CONDITION: usize = 3;
    let mut program = Vec::with_capacity(conditions.len() * PER_CONDITION + 2);
    let refusal = conditions.len() * PER_CONDITION + 1;
    for condition in conditions {
        program.push(instruction(
            libc::BPF_LD | condition.size | libc::BPF_ABS,
            0,
            0,
            condition.offset,
        ));
        // Jumps count from the instruction after them.
        let to_refusal = refusal - program.len() - 1;
        program.push(instruction(libc::BPF_JMP | libc::BPF_JGE, 0, to_refusal, condition.low));
        program.push(instruction(libc::BPF_JMP | libc::BPF_JGT, to_refusal - 1, 0, condition.high));
    }
    program.push(instruction(libc::BPF_RET, 0, 0, length));
    program.push(instruction(libc::BPF_RET, 0, 0, 0));
    program
}

fn instruction(code: u32, if_true: usize, if_false: usize, operand: u32) -> SockFilter {
    let distance = |steps| u8::try_from(steps).expect("these programs have 26 instructions");
    let code = u16::try_from(code).expect("opcodes have 16 bits");
    SockFilter::new(code, distance(if_true), distance(if_false), operand)
}
