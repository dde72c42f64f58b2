//! Which certificates of upstreams are believed.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::Protocol;

/// Roots of trust, with TLS settings made of them once.
#[derive(Clone)]
pub struct Trust {
    auto: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Why roots are refused.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not PEM.
    #[error("the CA file is not PEM: {0}")]
    Pem(String),
    /// No certificate, or none that can be a root.
    #[error("no certificate authority in the CA file")]
    None,
}

impl Trust {
    /// The roots of Mozilla, and those of `extra_pem`.
    ///
    /// # Errors
    /// When `extra_pem` is no PEM or holds no certificate.
    pub fn new(extra_pem: Option<&[u8]>) -> Result<Trust, TrustError> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(pem) = extra_pem {
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .map_err(|error| TrustError::Pem(error.to_string()))?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(TrustError::None);
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring serves the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let with_alpn = |alpn: &[&str]| {
            let mut config = config.clone();
            config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
            Arc::new(config)
        };
        Ok(Trust {
            auto: with_alpn(&["h2", "http/1.1"]),
            http1: with_alpn(&["http/1.1"]),
            http2: with_alpn(&["h2"]),
        })
    }

    pub(super) fn config(&self, protocol: Protocol) -> Arc<ClientConfig> {
        Arc::clone(match protocol {
            Protocol::Auto => &self.auto,
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        })
    }

    /// What tells two of them apart.
    pub(super) fn identity(&self) -> usize {
        Arc::as_ptr(&self.auto) as usize
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}
