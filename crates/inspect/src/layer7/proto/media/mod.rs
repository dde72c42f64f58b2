//! Calls, streams, conferences.

mod rtp;
mod sip;

use crate::layer7::protocol::Protocol;

pub(super) use rtp::name as rtp_name;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&sip::Sip, &rtp::RTP, &rtp::RTCP];
