//! One FTP command with its replies, and one transfer.

use serde::Serialize;

/// EVE's `ftp`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ftp {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_data: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reply: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub completion_code: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_port: Option<u16>,
    /// `active` or `passive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// `yes` or `no`.
    pub reply_received: &'static str,
    pub command_truncated: bool,
    pub reply_truncated: bool,
}

/// EVE's `ftp_data`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FtpData {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    pub command: &'static str,
}
