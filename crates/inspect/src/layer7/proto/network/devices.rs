//! Finding and steering devices: Ubiquiti's and TP-Link's own protocols, CoAP, and the Rx of
//! AFS.

use crate::layer7::protocol::{Named, Transport, Verdict};
use crate::layer7::reader::Reader;

/// Ubiquiti's discovery.
pub(super) const UBIQUITI: Named = Named {
    name: "ubnt-discovery",
    ports: &[10001],
    transports: &[Transport::Udp],
    probe: |seen| match *seen.newest() {
        // Version, command, length; then entries of type, length and data.
        [1, 0, 0, 0] if seen.has_port(10001) => Verdict::CERTAIN,
        [version @ 1..=2, command, high, low, ref entries @ ..] => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let is_command = match version {
                1 => command == 0,
                _ => matches!(command, 2 | 6 | 8 | 9 | 10 | 11),
            };
            let mut reader = Reader::new(entries);
            let mut is_right = is_command && len == entries.len() && len > 0;
            while is_right && !reader.is_empty() {
                is_right = reader.u8().is_some() && reader.piece16().is_some();
            }
            match (is_right, seen.has_port(10001)) {
                (true, true) => Verdict::CERTAIN,
                (true, false) => Verdict::LIKELY,
                _ => Verdict::No,
            }
        }
        _ => Verdict::No,
    },
};

/// TP-Link's smart home: JSON, each byte XORed with the one before it on the wire.
pub(super) const TPLINK: Named = Named {
    name: "tplink-shp",
    ports: &[9999],
    transports: &[Transport::Udp, Transport::Tcp],
    probe: |seen| {
        // `{"` as it is on the wire.
        const BEGIN: [u8; 2] = [b'{' ^ 171, b'{' ^ 171 ^ b'"'];
        let bytes = seen.newest();
        let bytes = match seen.transport {
            // Over TCP behind its length.
            Transport::Tcp => match bytes {
                [0, 0, _, _, rest @ ..] => rest,
                _ if bytes.len() < 4 && bytes.iter().take(2).all(|&byte| byte == 0) => {
                    return Verdict::NeedMore;
                }
                _ => return Verdict::No,
            },
            _ => bytes,
        };
        let is_begin = bytes.iter().zip(BEGIN).all(|(byte, expected)| *byte == expected);
        if !is_begin {
            return Verdict::No;
        }
        if bytes.len() < 4 {
            return Verdict::NeedMore;
        }
        let plain = bytes[1..]
            .iter()
            .zip(bytes)
            .take(16)
            .map(|(byte, key)| byte ^ key);
        if plain.clone().all(|byte| (b' '..0x7f).contains(&byte)) {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

/// Constrained Application Protocol (RFC 7252).
pub(super) const COAP: Named = Named {
    name: "coap",
    ports: &[5683, 61631],
    transports: &[Transport::Udp],
    probe: |seen| {
        let mut reader = Reader::new(seen.newest());
        let (Some(first), Some(code), Some(_id)) = (reader.u8(), reader.u8(), reader.be16()) else {
            return Verdict::No;
        };
        let token_len = usize::from(first & 15);
        if first >> 6 != 1 || token_len > 8 || reader.skip(token_len).is_none() {
            return Verdict::No;
        }
        let is_code = match code >> 5 {
            0 => code <= 7,
            2 => matches!(code & 31, 1..=5 | 31),
            4 => matches!(code & 31, 0..=6 | 8 | 9 | 12 | 13 | 15 | 22 | 29),
            5 => code & 31 <= 8,
            _ => false,
        };
        let Some(options) = coap_options(&mut reader).filter(|_| is_code) else {
            return Verdict::No;
        };
        let is_empty = code == 0 && seen.newest().len() == 4;
        match (seen.has_port(5683), is_empty || code != 0) {
            (true, true) => Verdict::CERTAIN,
            // A request with a path and more.
            (false, true) if (1..=4).contains(&code) && options >= 2 => Verdict::LIKELY,
            _ => Verdict::No,
        }
    },
};

/// How many options there are up to the payload, if they are right.
fn coap_options(reader: &mut Reader<'_>) -> Option<u32> {
    let mut number = 0u32;
    let mut options = 0;
    while let Some(first) = reader.u8() {
        if first == 0xff {
            // A marker says that something follows.
            return (!reader.is_empty()).then_some(options);
        }
        let mut extended = |nibble: u8| match nibble {
            13 => Some(u32::from(reader.u8()?) + 13),
            14 => Some(u32::from(reader.be16()?) + 269),
            15 => None,
            small => Some(small.into()),
        };
        number += extended(first >> 4)?;
        let len = extended(first & 15)?;
        if number > 2053 || len > 1034 {
            return None;
        }
        reader.skip(len as usize)?;
        options += 1;
    }
    Some(options)
}

/// Rx, the remote procedure call of AFS.
pub(super) const RX: Named = Named {
    name: "rx",
    ports: &[7000, 7001, 7002, 7003, 7005, 7007],
    transports: &[Transport::Udp],
    probe: |seen| {
        const HEADER_LEN: usize = 28;
        let Some(head) = seen.newest().first_chunk::<HEADER_LEN>() else {
            return Verdict::No;
        };
        // Type, flags, status, security; services have small numbers.
        let [kind, flags, status, security] = [head[20], head[21], head[22], head[23]];
        let service = u16::from_be_bytes([head[26], head[27]]);
        let is_header = (1..=13).contains(&kind) && flags & 0xc0 == 0 && security <= 6 && status <= 4;
        let has_port = (7000..=7009).any(|port| seen.has_port(port));
        let is_call = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) < 1 << 20;
        if has_port && is_header && is_call && service <= 2000 {
            Verdict::CERTAIN
        } else {
            Verdict::No
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::layer7::kit;

    #[test]
    fn recognised() {
        kit::check_datagrams(&[(0, b"\x02\x06\0\x05\x0b\0\x02ab")], Some("ubnt-discovery"), &[]);
        let mut key = 171;
        let shp: Vec<u8> = b"{\"system\":{\"get_sysinfo\":{}}}"
            .iter()
            .map(|byte| {
                key ^= byte;
                key
            })
            .collect();
        kit::check_datagrams(&[(0, &shp)], Some("tplink-shp"), &[]);
        let framed = [&(shp.len() as u32).to_be_bytes()[..], &shp].concat();
        kit::check_stream(&[(0, &framed)], Some("tplink-shp"), &[]);
        kit::check_datagrams_to(
            5683,
            &[(0, b"\x40\x01\x12\x34\xbb.well-known\x04core")],
            Some("coap"),
            &[],
        );
        kit::check_datagrams_to(5683, &[(0, b"\x40\x01\x12\x34\xff")], None, &[]);
        let rx = b"\x12\x34\x56\x78\0\0\0\x04\0\0\0\x01\0\0\0\x01\0\0\0\x01\x01\x05\0\0\0\0\0\x34";
        kit::check_datagrams_to(7003, &[(0, rx)], Some("rx"), &[]);
        kit::check_datagrams(&[(0, rx)], None, &[]);
    }
}
