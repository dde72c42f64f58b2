//! Why the two parsers may differ. Each rule names a limit of etherparse or a choice of ours; a
//! difference that is a fault of ours has no place here.

use wire::parse::note;
use wire::{Packet, Reject, ip_proto};

use crate::facts::Facts;
use crate::theirs::Theirs;

/// One packet on which the parsers differ.
pub(crate) struct Case<'a> {
    pub(crate) ours: &'a Result<Packet, Reject>,
    pub(crate) facts: Option<&'a Facts>,
    pub(crate) theirs: &'a Theirs,
    pub(crate) frame: &'a [u8],
}

pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) applies: fn(&Case<'_>) -> bool,
    /// The facts that may differ by this rule; "ip" is whether there is an IP packet.
    pub(crate) excuses: &'static [&'static str],
}

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "encapsulation",
        reason: "etherparse does not unwrap MPLS, PPPoE and LLC; behind them the comparison goes on",
        applies: |case| {
            case.ours.is_ok() && matches!(last_ethertype(case), Some(0x8847 | 0x8848 | 0x8864 | 0..=1500))
        },
        excuses: &["ip"],
    },
    Rule {
        name: "no length",
        reason: "a packet that states no length (left to the device to fill in) ends for us with the frame",
        applies: |case| {
            let end = case.facts.and_then(|facts| facts.l3_end);
            end == Some(case.frame.len())
                && matches!(case.theirs, Theirs::Ip(theirs) if theirs.l3_end.is_none())
        },
        excuses: &["l3_end"],
    },
    Rule {
        name: "AH over IPv4",
        reason: "etherparse looks behind an authentication header on IPv4; for us, as for nDPI, it is the protocol",
        applies: |case| {
            case.ours
                .as_ref()
                .is_ok_and(|ours| ours.family == 4 && ours.protocol == ip_proto::AH)
        },
        excuses: &["protocol", "l4_at", "ports", "tcp", "icmp", "payload_at"],
    },
    Rule {
        name: "mobility header",
        reason: "etherparse takes a mobility header for a transport; it is an extension header (RFC 6275, 6.1)",
        applies: |case| {
            case.ours
                .as_ref()
                .is_ok_and(|ours| ours.family == 6 && ours.notes & note::EXTENSIONS != 0)
                && matches!(case.theirs, Theirs::Ip(theirs) if theirs.protocol == ip_proto::MOBILITY)
        },
        excuses: &["protocol", "l4_at"],
    },
    Rule {
        name: "options cut",
        reason: "etherparse wants all IPv4 options to be captured",
        applies: |case| {
            case.ours
                .as_ref()
                .is_ok_and(|ours| ours.family == 4 && usize::from(ours.l4_at) > case.frame.len())
        },
        excuses: &["ip"],
    },
    Rule {
        name: "TCP options cut",
        reason: "etherparse wants all TCP options to be captured",
        applies: |case| {
            case.facts
                .is_some_and(|facts| facts.tcp.is_some() && facts.payload_at > Some(case.frame.len()))
        },
        excuses: &["ports", "tcp", "payload_at"],
    },
    Rule {
        name: "TCP data offset",
        reason: "etherparse gives nothing of a TCP header with an impossible data offset, we give the ports",
        applies: |case| {
            case.ours
                .as_ref()
                .is_ok_and(|ours| ours.protocol == ip_proto::TCP)
                && ours_notes(case) & note::L4_BAD != 0
        },
        excuses: &["ports"],
    },
];

fn last_ethertype(case: &Case<'_>) -> Option<u16> {
    match case.theirs {
        Theirs::NoIp { last_ethertype } => *last_ethertype,
        _ => None,
    }
}

fn ours_notes(case: &Case<'_>) -> u16 {
    case.ours.as_ref().map_or(0, |packet| packet.notes)
}
