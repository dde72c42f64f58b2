//! Certificates of a listener: chosen by the name a client asks for, exchanged at run time.
//!
//! A connection keeps the certificate it began with.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConnection};
use rustls::sign::CertifiedKey;

use super::TlsInfo;

/// A certificate chain and its key, both PEM.
#[derive(Clone)]
pub struct CertificatePem {
    /// What errors call it; a file name, say.
    pub name: String,
    /// Host names it serves: exact, or `*.` and a domain, which stands for one label. Empty: for any other name, and
    /// for clients that name none.
    pub hosts: Vec<String>,
    /// The certificate, then those that signed it.
    pub chain: Vec<u8>,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for CertificatePem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificatePem")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// Why certificates are refused.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or nothing in it.
    #[error("certificate `{name}`: its {part} is not PEM: {why}")]
    Pem {
        /// Which certificate.
        name: String,
        /// `chain` or `key`.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Key and certificate do not fit, or the key is of no known kind.
    #[error("certificate `{name}`: key and chain cannot be used together")]
    Unusable {
        /// Which certificate.
        name: String,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// Two for one name.
    #[error("certificates `{first}` and `{second}` both serve `{host}`: give it to one of them")]
    Twice {
        /// The host.
        host: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// None at all.
    #[error("no certificate: a TLS listener needs at least one")]
    None,
}

#[derive(Debug, Default)]
struct Table {
    /// By lower-case host; wildcards without their `*`, as `.example.com`.
    by_host: HashMap<String, Arc<CertifiedKey>>,
    fallback: Option<Arc<CertifiedKey>>,
}

#[derive(Debug)]
struct Resolver(RwLock<Arc<Table>>);

/// The certificates of one or more listeners.
#[derive(Debug)]
pub struct Certificates {
    resolver: Arc<Resolver>,
    config: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads them all; nothing is taken when one is wrong.
    ///
    /// # Errors
    /// Names the certificate and what is wrong with it.
    pub fn new(certificates: &[CertificatePem]) -> Result<Certificates, CertificateError> {
        let resolver = Arc::new(Resolver(RwLock::new(Arc::new(read(certificates)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("ring serves both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Certificates {
            resolver,
            config: Arc::new(config),
        })
    }

    /// Exchanges them: handshakes from now on see the new ones.
    ///
    /// # Errors
    /// As of [`Certificates::new`]; the old ones stay.
    pub fn replace(&self, certificates: &[CertificatePem]) -> Result<(), CertificateError> {
        let table = Arc::new(read(certificates)?);
        *self.resolver.0.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.config).into()
    }
}

fn read(certificates: &[CertificatePem]) -> Result<Table, CertificateError> {
    let mut table = Table::default();
    let mut names: HashMap<String, String> = HashMap::new();
    for pem in certificates {
        let bad = |part, why: String| CertificateError::Pem {
            name: pem.name.clone(),
            part,
            why,
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem.chain)
            .collect::<Result<_, _>>()
            .map_err(|error| bad("chain", error.to_string()))?;
        if chain.is_empty() {
            return Err(bad("chain", "no `CERTIFICATE` section in it".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|error| bad("key", error.to_string()))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| {
            CertificateError::Unusable {
                name: pem.name.clone(),
                source,
            }
        })?;
        let key = Arc::new(key);
        let hosts = if pem.hosts.is_empty() {
            &[String::new()] as &[String]
        } else {
            &pem.hosts
        };
        for host in hosts {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            if let Some(first) = names.insert(host.clone(), pem.name.clone()) {
                return Err(CertificateError::Twice {
                    host,
                    first,
                    second: pem.name.clone(),
                });
            }
            match host.strip_prefix('*') {
                _ if host.is_empty() => table.fallback = Some(Arc::clone(&key)),
                Some(domain) => drop(table.by_host.insert(domain.to_owned(), Arc::clone(&key))),
                None => drop(table.by_host.insert(host, Arc::clone(&key))),
            }
        }
        // A single certificate serves every name: the client judges it.
        if certificates.len() == 1 {
            table.fallback = Some(key);
        }
    }
    if names.is_empty() {
        return Err(CertificateError::None);
    }
    Ok(table)
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let name = hello
            .server_name()
            .unwrap_or_default()
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let wildcard = || name.find('.').and_then(|dot| table.by_host.get(&name[dot..]));
        table
            .by_host
            .get(&name)
            .or_else(wildcard)
            .or(table.fallback.as_ref())
            .cloned()
    }
}

pub(super) fn info_of(connection: &ServerConnection) -> TlsInfo {
    TlsInfo {
        sni: connection.server_name().map(Into::into),
        version: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "unknown",
        },
        alpn: connection
            .alpn_protocol()
            .map(|alpn| String::from_utf8_lossy(alpn).into()),
    }
}
