//! Mail, files and terminals: protocols of lines.

mod email;
mod smtp;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[&smtp::Smtp];
