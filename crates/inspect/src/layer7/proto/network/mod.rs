//! Services that keep a network going.

mod ntp;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&ntp::Ntp];
