//! Calls, streams, conferences.

mod calls;
mod rtp;
mod sip;
mod talk;

use crate::layer7::protocol::Protocol;

pub(super) use rtp::name as rtp_name;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &sip::Sip,
    &rtp::RTP,
    &rtp::RTCP,
    &calls::H323,
    &calls::Mgcp,
    &calls::SKINNY,
    &talk::DISCORD,
    &talk::TEAMSPEAK,
    &talk::ZOOM,
];
