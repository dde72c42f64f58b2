//! Calls, streams, conferences.

mod rtp;

use crate::layer7::protocol::Protocol;

pub(super) use rtp::name as rtp_name;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&rtp::RTP, &rtp::RTCP];
