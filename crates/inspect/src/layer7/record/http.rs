//! One HTTP transaction: a request and, where it was seen, its response.

use serde::Serialize;

/// EVE's `http`. Texts are cut at [`crate::layer7::insight::TEXT_MAX`] but for `url`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Http {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Port of the `Host` header, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_user_agent: Option<String>,
    /// Media type of the response without its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_refer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// Bytes of the response's body that were seen.
    pub length: u64,
    /// Of the request, and of the response, as their `Content-Length` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_content_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
}
