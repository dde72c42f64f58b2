//! Community ID, version 1: a name for a flow that other tools give it too (Corelight's
//! `community-id-spec`).
//!
//! The endpoint with the lower (address, port) comes first. ICMP has no ports: the type stands for
//! the source port and, for questions and answers, the type of the counterpart for the destination
//! port; other messages have their code there and are never turned around.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use wire::ip_proto;

/// What a flow is named by. Ports are 0 where there are none; of ICMP they are type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub src_port: u16,
    pub dst_port: u16,
}

/// The identifier, as `1:LQU9qZlK+B5F3KDmev6m5PMibrg=`. `seed` keeps the names of separate
/// networks apart; everyone uses 0 by default.
#[must_use]
pub fn community_id(tuple: &Tuple, seed: u16) -> String {
    let Ends {
        first,
        second,
        has_ports,
    } = Ends::of(tuple);
    let mut hash = Sha1::new();
    hash.update(seed.to_be_bytes());
    update_address(&mut hash, first.0);
    update_address(&mut hash, second.0);
    hash.update([tuple.protocol, 0]);
    if has_ports {
        hash.update(first.1.to_be_bytes());
        hash.update(second.1.to_be_bytes());
    }
    let mut id = String::with_capacity(30);
    id.push_str("1:");
    STANDARD.encode_string(hash.finalize(), &mut id);
    id
}

type End = (IpAddr, u16);

/// Both ends in the order they are hashed.
struct Ends {
    first: End,
    second: End,
    has_ports: bool,
}

impl Ends {
    fn of(tuple: &Tuple) -> Self {
        let (mut src, mut dst) = ((tuple.src, tuple.src_port), (tuple.dst, tuple.dst_port));
        let mut one_way = false;
        let has_ports = match tuple.protocol {
            ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP => true,
            ip_proto::ICMP | ip_proto::ICMPV6 => {
                match counterpart(tuple.protocol, tuple.src_port) {
                    Some(answer) => dst.1 = answer,
                    None => one_way = true,
                }
                true
            }
            _ => {
                (src.1, dst.1) = (0, 0);
                false
            }
        };
        if !one_way && src > dst {
            (src, dst) = (dst, src);
        }
        Self {
            first: src,
            second: dst,
            has_ports,
        }
    }
}

fn update_address(hash: &mut Sha1, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => hash.update(v4.octets()),
        IpAddr::V6(v6) => hash.update(v6.octets()),
    }
}

/// The type of the message that answers, or is answered by, this one.
fn counterpart(protocol: u8, kind: u16) -> Option<u16> {
    let pairs: &[(u16, u16)] = if protocol == ip_proto::ICMP {
        // Echo, router discovery, timestamp, information, address mask.
        &[(8, 0), (10, 9), (13, 14), (15, 16), (17, 18)]
    } else {
        // Echo, listener query, router and neighbour discovery, node information, home agents.
        &[
            (128, 129),
            (130, 131),
            (133, 134),
            (135, 136),
            (139, 140),
            (144, 145),
        ]
    };
    pairs.iter().find_map(|&(one, other)| {
        if kind == one {
            Some(other)
        } else if kind == other {
            Some(one)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: u8, src: (&str, u16), dst: (&str, u16)) -> Tuple {
        Tuple {
            src: src.0.parse().expect("an address"),
            dst: dst.0.parse().expect("an address"),
            protocol,
            src_port: src.1,
            dst_port: dst.1,
        }
    }

    /// Default seed and seed 1, values of the specification's baseline.
    #[track_caller]
    fn check(protocol: u8, src: (&str, u16), dst: (&str, u16), expected: [&str; 2]) {
        let tuple = tuple(protocol, src, dst);
        assert_eq!([0, 1].map(|seed| community_id(&tuple, seed)), expected);
    }

    #[test]
    fn ports_in_either_order() {
        let (client, server) = (("128.232.110.120", 34855), ("66.35.250.204", 80));
        let expected = ["1:LQU9qZlK+B5F3KDmev6m5PMibrg=", "1:3V71V58M3Ksw/yuFALMcW0LAHvc="];
        check(6, client, server, expected);
        check(6, server, client, expected);
        let (client, server) = (("192.168.1.52", 54585), ("8.8.8.8", 53));
        let expected = ["1:d/FP5EW3wiY1vCndhwleRRKHowQ=", "1:Q9We8WO3piVF8yEQBNJF4uiSVrI="];
        check(17, client, server, expected);
        let (one, other) = (("192.168.170.8", 7), ("192.168.170.56", 7));
        let expected = ["1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=", "1:5w3ZRjeKBzqT3zsaEECDGjUbYeg="];
        check(132, other, one, expected);
        let (client, server) = (
            ("2001:470:e5bf:dead:4957:2174:e82c:4887", 63943),
            ("2607:f8b0:400c:c03::1a", 25),
        );
        let expected = ["1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=", "1:eJYTW6AOzFLlSUoESovMjnu7rMw="];
        check(6, client, server, expected);
    }

    #[test]
    fn icmp_questions_and_answers_meet() {
        let (asker, asked) = ("192.168.0.89", "192.168.0.1");
        let expected = ["1:X0snYXpgwiv9TZtqg64sgzUn6Dk=", "1:03g6IloqVBdcZlPyX8r0hgoE7kA="];
        check(1, (asker, 8), (asked, 0), expected);
        check(1, (asked, 0), (asker, 0), expected);
        let (asker, asked) = ("fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da");
        let expected = ["1:zavyT/cezQr1fmImYCwYnMXbgck=", "1:2hSqmsDZ2kdcY9kbiUzOEBic0iM="];
        check(58, (asker, 135), (asked, 0), expected);
        check(58, (asked, 136), (asker, 0), expected);
        let expected = ["1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0=", "1:L7Ka0ZMYu+J3bL4ulW2PrqyXNo8="];
        check(58, ("fe80::200:86ff:fe05:80da", 133), ("ff02::2", 0), expected);
    }

    #[test]
    fn icmp_errors_keep_their_direction() {
        let expected = ["1:YHxtAirCG//0OzkcVAukqKQN9xM=", "1:XjUibYHaafLQ3pxQeiMI8g25q20="];
        check(1, ("10.0.0.1", 11), ("10.0.0.2", 0), expected);
        let (router, sender) = (
            "3ffe:501:410:0:2c0:dfff:fe47:33e",
            "3ffe:507:0:1:200:86ff:fe05:80da",
        );
        let expected = ["1:hLZd0XGWojozrvxqE0dWB1iM6R0=", "1:W8MHwXpWzpoSTD+cGcaJr4u0ys8="];
        check(58, (router, 1), (sender, 4), expected);
    }

    #[test]
    fn without_ports() {
        let expected = ["1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=", "1:rYir8gphR31noO9iDRQmF/BteEI="];
        check(46, ("10.1.12.1", 0), ("10.1.12.2", 0), expected);
        check(46, ("10.1.12.2", 0), ("10.1.12.1", 0), expected);
    }
}
