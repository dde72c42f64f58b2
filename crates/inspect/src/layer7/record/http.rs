//! One HTTP transaction: a request and, where it was seen, its response.

use serde::Serialize;

/// EVE's `http`. Texts are cut at [`Http::TEXT_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Http {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Port of the `Host` header, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `2` for HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
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
    /// A status that is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_string: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// Bytes of the response's body that were seen, as they stood on the wire.
    pub length: u64,
    /// Of the request, and of the response, as their `Content-Length` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_content_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
    /// In the order they came, at most [`Http::FIELDS_MAX`]; of credentials and cookies only the kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<HttpField>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<HttpField>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2: Option<Http2>,
}

impl Http {
    /// Longest text, in bytes.
    pub const TEXT_MAX: usize = 16 * 1024;
    /// Most header fields of a message that are kept.
    pub const FIELDS_MAX: usize = 100;
}

/// A header field.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HttpField {
    pub name: String,
    pub value: String,
}

/// What HTTP/2 adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Http2 {
    /// 0 is the connection itself.
    pub stream_id: u32,
    pub request: Http2Side,
    pub response: Http2Side,
}

/// What one side said of the connection or the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Http2Side {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Http2Setting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
}

/// One parameter of a SETTINGS frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Http2Setting {
    /// `SETTINGSMAXFRAMESIZE`; one without a name by its number.
    pub settings_id: String,
    pub settings_value: u32,
}
