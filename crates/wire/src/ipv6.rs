//! IPv6 header and extension headers (RFC 8200).

use crate::{Load, ip_proto};

/// Length of the fixed header in bytes.
pub const HEADER_LEN: usize = 40;

/// Extension headers walked before the chain is given up. RFC 8200 names six kinds, each once
/// (destination options twice); longer chains are an attack or a fault.
pub const EXTENSIONS_MAX: usize = 8;

/// View over the fixed IPv6 header.
#[derive(Clone, Copy, Debug)]
pub struct View([u8; HEADER_LEN]);

impl View {
    /// `None` if the 40 bytes are not there.
    #[inline(always)]
    pub fn load(load: &(impl Load + ?Sized), at: usize) -> Option<Self> {
        load.bytes(at).map(Self)
    }

    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    /// Traffic class: DSCP and ECN.
    #[inline(always)]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.0[0] << 4 | self.0[1] >> 4
    }

    #[inline(always)]
    #[must_use]
    pub const fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.0[1] & 0x0f, self.0[2], self.0[3]])
    }

    /// Bytes after the fixed header; 0 for a jumbogram (RFC 2675).
    #[inline(always)]
    #[must_use]
    pub const fn payload_len(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    #[inline(always)]
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.0[6]
    }

    #[inline(always)]
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    #[inline(always)]
    #[must_use]
    pub const fn src(&self) -> [u8; 16] {
        let b = &self.0;
        [
            b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15], b[16], b[17], b[18], b[19], b[20], b[21],
            b[22], b[23],
        ]
    }

    #[inline(always)]
    #[must_use]
    pub const fn dst(&self) -> [u8; 16] {
        let b = &self.0;
        [
            b[24], b[25], b[26], b[27], b[28], b[29], b[30], b[31], b[32], b[33], b[34], b[35], b[36], b[37],
            b[38], b[39],
        ]
    }
}

/// How an extension header states its length; `None` for whatever is not on the allow-list, so
/// that an unknown next header is never taken for one and its bytes never for ports.
#[inline(always)]
#[must_use]
pub const fn extension_len(kind: u8, len_field: u8) -> Option<usize> {
    match kind {
        ip_proto::HOP_BY_HOP
        | ip_proto::ROUTING
        | ip_proto::DEST_OPTIONS
        | ip_proto::MOBILITY
        | ip_proto::HIP
        | ip_proto::SHIM6 => Some((len_field as usize + 1) * 8),
        ip_proto::FRAGMENT => Some(8),
        ip_proto::AH => Some((len_field as usize + 2) * 4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{IP6_UDP, hex};

    #[test]
    fn fields() {
        let mut bytes = hex(IP6_UDP);
        bytes[..4].copy_from_slice(&[0x6a, 0xb5, 0x43, 0x21]);
        let view = View::load(bytes.as_slice(), 0).unwrap();
        assert_eq!(
            (view.version(), view.traffic_class(), view.flow_label()),
            (6, 0xab, 0x54321)
        );
        assert_eq!(
            (view.payload_len(), view.next_header(), view.hop_limit()),
            (12, 17, 64)
        );
        assert_eq!(view.src(), bytes[8..24]);
        assert_eq!(view.dst(), bytes[24..40]);
        assert!(View::load(&bytes[..39], 0).is_none());
    }

    #[test]
    fn only_extension_headers_have_a_length() {
        let with_length: std::vec::Vec<u8> = (0..=255)
            .filter(|&kind| extension_len(kind, 1).is_some())
            .collect();
        assert_eq!(with_length, [0, 43, 44, 51, 60, 135, 139, 140]);
        for kind in [0, 43, 60, 135, 139, 140] {
            assert_eq!(extension_len(kind, 2), Some(24));
        }
        assert_eq!(extension_len(44, 200), Some(8));
        assert_eq!(extension_len(51, 4), Some(24));
    }
}
