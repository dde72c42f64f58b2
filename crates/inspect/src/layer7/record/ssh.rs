//! One SSH connection's greeting.

use serde::Serialize;

/// EVE's `ssh`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ssh {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<SshSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SshSide>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SshSide {
    pub proto_version: String,
    pub software_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hassh: Option<Hassh>,
}

/// Fingerprint of the algorithms offered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hassh {
    pub hash: String,
    pub string: String,
}
