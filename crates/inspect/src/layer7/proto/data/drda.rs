//! Distributed Relational Database Architecture (Db2, Derby, Informix): DDM structures behind a magic byte.

use crate::layer7::protocol::{Named, Seen, Side, Transport, Verdict};

pub(super) static DRDA: Named = Named {
    name: "drda",
    ports: &[50000, 446],
    transports: &[Transport::Tcp],
    probe,
};

fn probe(seen: &Seen<'_>) -> Verdict {
    seen.opened_by_either(|bytes| {
        if bytes.get(2).is_some_and(|&magic| magic != 0xd0) {
            return Verdict::No;
        }
        let Some(&[high, low, _, format, _, _, ddm_high, ddm_low, code_high, code_low]) = bytes.first_chunk()
        else {
            return Verdict::NeedMore;
        };
        let len = u16::from_be_bytes([high, low]);
        let ddm_len = u16::from_be_bytes([ddm_high, ddm_low]);
        // A request, a reply or an object; what it holds is six bytes shorter.
        if !matches!(format & 0x0f, 1..=3 | 5) || len < 10 || ddm_len != len - 6 {
            return Verdict::No;
        }
        match u16::from_be_bytes([code_high, code_low]) {
            // Exchange of attributes and the security check, as clients begin, and the answers.
            0x1041 | 0x106d | 0x106e | 0x2001 | 0x200c | 0x2014 => Verdict::CERTAIN,
            0x1443 | 0x14ac | 0x1219 | 0x2201 => Verdict::certain(Side::Server),
            _ => Verdict::LIKELY,
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        let check = |bytes: &[u8], app: Option<&str>| kit::check_stream(&[(0, bytes)], app, &[]);
        check(b"\0\x89\xd0\x41\0\x01\0\x83\x10\x41\0", Some("drda"));
        check(b"\0\x89\xd0\x41\0\x01\0\x84\x10\x41\0", None);
    }
}
