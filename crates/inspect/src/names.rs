//! Names of protocol numbers: lower case for filters and Weir's own records, and as EVE writes them.

/// One protocol above IP.
struct Protocol {
    number: u8,
    /// As the filter language writes it.
    name: &'static str,
    /// As the IANA registry of protocol numbers does, which is what EVE's `proto` holds.
    iana: &'static str,
}

const fn protocol(number: u8, name: &'static str, iana: &'static str) -> Protocol {
    Protocol { number, name, iana }
}

const PROTOCOLS: &[Protocol] = &[
    protocol(0, "hopopt", "HOPOPT"),
    protocol(1, "icmp", "ICMP"),
    protocol(2, "igmp", "IGMP"),
    protocol(4, "ipip", "IP-in-IP"),
    protocol(6, "tcp", "TCP"),
    protocol(8, "egp", "EGP"),
    protocol(17, "udp", "UDP"),
    protocol(33, "dccp", "DCCP"),
    protocol(41, "ipv6-in-ip", "IPv6"),
    protocol(43, "ipv6-route", "IPv6-Route"),
    protocol(44, "ipv6-frag", "IPv6-Frag"),
    protocol(46, "rsvp", "RSVP"),
    protocol(47, "gre", "GRE"),
    protocol(50, "esp", "ESP"),
    protocol(51, "ah", "AH"),
    protocol(58, "icmpv6", "IPv6-ICMP"),
    protocol(59, "ipv6-nonxt", "IPv6-NoNxt"),
    protocol(60, "ipv6-opts", "IPv6-Opts"),
    protocol(88, "eigrp", "EIGRP"),
    protocol(89, "ospf", "OSPFIGP"),
    protocol(103, "pim", "PIM"),
    protocol(108, "ipcomp", "IPComp"),
    protocol(112, "vrrp", "VRRP"),
    protocol(115, "l2tp", "L2TP"),
    protocol(132, "sctp", "SCTP"),
    protocol(135, "mobility", "Mobility-Header"),
    protocol(136, "udplite", "UDPLite"),
    protocol(137, "mpls-in-ip", "MPLS-in-IP"),
];

fn find(number: u8) -> Option<&'static Protocol> {
    PROTOCOLS
        .binary_search_by_key(&number, |protocol| protocol.number)
        .ok()
        .map(|at| &PROTOCOLS[at])
}

/// The lower-case name of a protocol above IP, as filters write it; `None` if it has none here.
#[must_use]
pub fn protocol_name(number: u8) -> Option<&'static str> {
    find(number).map(|protocol| protocol.name)
}

/// The IANA keyword of a protocol above IP; `None` if it has none here.
#[must_use]
pub fn protocol_keyword(number: u8) -> Option<&'static str> {
    find(number).map(|protocol| protocol.iana)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_found() {
        for protocol in PROTOCOLS {
            assert_eq!(protocol_name(protocol.number), Some(protocol.name));
        }
        assert_eq!(protocol_keyword(58), Some("IPv6-ICMP"));
        assert_eq!(protocol_name(253), None);
    }
}
