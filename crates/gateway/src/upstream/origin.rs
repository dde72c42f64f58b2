//! Where an upstream is.

use std::hash::{Hash, Hasher};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Authority;

use super::EgressRule;
use super::trust::Trust;

/// Plain or TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// Which protocol to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS too (prior knowledge).
    Http2,
}

/// An upstream's scheme, host and port, and how to call it. Two that are equal share connections.
#[derive(Debug, Clone)]
pub struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) egress: EgressRule,
    pub(super) trust: Trust,
    tls_name: Option<Box<str>>,
    host_value: Option<HeaderValue>,
}

/// Why a URL is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not a URL.
    #[error("`{0}` is no URL: write `http://host:port` or `https://host`")]
    NotUrl(String),
    /// With a name or password.
    #[error("the URL of `{0}` holds a user name: credentials belong into a field of their own")]
    UserInfo(String),
}

impl Origin {
    /// From a URL, whose path is left to the caller.
    ///
    /// # Errors
    /// When it is no URL of `http` or `https`.
    pub fn new(
        url: &str,
        protocol: Protocol,
        egress: EgressRule,
        trust: Trust,
    ) -> Result<Origin, OriginError> {
        let not_url = || OriginError::NotUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| not_url())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(not_url()),
        };
        let authority = uri.authority().ok_or_else(not_url)?;
        if authority.as_str().contains('@') {
            return Err(OriginError::UserInfo(authority.host().to_owned()));
        }
        if authority.host().is_empty() {
            return Err(not_url());
        }
        let default_port = if scheme == Scheme::Http { 80 } else { 443 };
        let port = authority.port_u16().unwrap_or(default_port);
        let host: Box<str> = authority.host().to_ascii_lowercase().into();
        let text = if port == default_port {
            host.to_string()
        } else {
            format!("{host}:{port}")
        };
        Ok(Origin {
            scheme,
            host,
            port,
            protocol,
            egress,
            trust,
            tls_name: None,
            host_value: HeaderValue::from_str(&text).ok(),
        })
    }

    /// Asks for this name in TLS, and checks it, instead of the host.
    #[must_use]
    pub fn with_tls_name(mut self, name: &str) -> Origin {
        self.tls_name = Some(name.into());
        self
    }

    /// The host, as in the URL.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn tls_name(&self) -> &str {
        let name = self.tls_name.as_ref().unwrap_or(&self.host);
        name.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn host_value(&self) -> Option<&HeaderValue> {
        self.host_value.as_ref()
    }

    pub(super) fn authority(&self) -> Option<Authority> {
        self.host_value.as_ref()?.to_str().ok()?.parse().ok()
    }

    pub(super) fn uri_scheme(&self) -> hyper::http::uri::Scheme {
        match self.scheme {
            Scheme::Http => hyper::http::uri::Scheme::HTTP,
            Scheme::Https => hyper::http::uri::Scheme::HTTPS,
        }
    }

    fn identity(&self) -> (Scheme, &str, u16, Protocol, EgressRule, Option<&str>, usize) {
        let trust = if self.scheme == Scheme::Https {
            self.trust.identity()
        } else {
            0
        };
        (
            self.scheme,
            &self.host,
            self.port,
            self.protocol,
            self.egress,
            self.tls_name.as_deref(),
            trust,
        )
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Origin) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Enough to tell most apart; equality looks at the rest.
        self.host.hash(state);
        self.port.hash(state);
    }
}
