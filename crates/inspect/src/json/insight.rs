//! What layer 7 knows of a flow, as JSON and back.

use serde::{Deserialize, Serialize};

use crate::layer7::insight::{Dns, Http, Insight, Ssh, Tls};
use crate::layer7::{Protocol, proto};
use crate::services;

/// The serialisable twin of an [`Insight`]; its parts have the names of the filter's fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonInsight {
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    /// What it was before it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// The server's name as the flow gives it, and as DNS gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<JsonTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<JsonHttp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<JsonDns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh: Option<JsonSsh>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<Box<str>>,
    #[serde(skip_serializing_if = "is_default")]
    clear_credential: bool,
    #[serde(skip_serializing_if = "is_default")]
    logins_attempted: u16,
    #[serde(skip_serializing_if = "is_default")]
    logins_succeeded: u16,
    #[serde(skip_serializing_if = "is_default")]
    logins_failed: u16,
    #[serde(skip_serializing_if = "is_default")]
    anomalies: u16,
    #[serde(skip_serializing_if = "is_default")]
    alerts: u16,
    #[serde(skip_serializing_if = "is_default")]
    transactions: u32,
    #[serde(skip_serializing_if = "is_default")]
    payload: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct JsonTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpn: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<Box<str>>,
    #[serde(skip_serializing_if = "is_default")]
    ech: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct JsonHttp {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_content_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<Box<str>>,
    requests: u32,
    #[serde(skip_serializing_if = "is_default")]
    refused: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct JsonDns {
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<Box<str>>,
    queries: u32,
    answers: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct JsonSsh {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hassh: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hassh_server: Option<Box<str>>,
}

impl JsonInsight {
    #[must_use]
    pub fn of(insight: &Insight) -> Self {
        let text = |name: Option<&'static str>| name.map(str::to_owned);
        Self {
            app: text(insight.app),
            app_before: text(insight.app_before),
            service: text(insight.service),
            server_name: insight.host.clone(),
            resolved_name: insight.resolved_name.clone(),
            tls: insight.tls.as_deref().map(|tls| JsonTls {
                sni: tls.sni.clone(),
                version: text(tls.version),
                alpn: tls.alpn.clone(),
                ja4: tls.ja4.clone(),
                ech: tls.has_ech,
            }),
            http: insight.http.as_deref().map(|http| JsonHttp {
                host: http.host.clone(),
                method: http.method.clone(),
                path: http.path.clone(),
                user_agent: http.user_agent.clone(),
                status: http.status,
                content_type: http.content_type.clone(),
                request_content_length: http.content_length[0],
                content_length: http.content_length[1],
                referer: http.referer.clone(),
                requests: http.requests,
                refused: http.refused,
            }),
            dns: insight.dns.as_deref().map(|dns| JsonDns {
                query: dns.query.clone(),
                rcode: dns.rcode.clone(),
                queries: dns.queries,
                answers: dns.answers,
            }),
            ssh: insight.ssh.as_deref().map(|ssh| JsonSsh {
                client: ssh.client.clone(),
                server: ssh.server.clone(),
                hassh: ssh.hassh.clone(),
                hassh_server: ssh.hassh_server.clone(),
            }),
            user: insight.user.clone(),
            about: insight.about.clone(),
            clear_credential: insight.has_clear_credential,
            logins_attempted: insight.logins_attempted,
            logins_succeeded: insight.logins_succeeded,
            logins_failed: insight.logins_failed,
            anomalies: insight.anomalies,
            alerts: insight.alerts,
            transactions: insight.transactions,
            payload: insight.has_payload,
        }
    }

    /// The insight it was written of; `None` if nothing was known.
    ///
    /// # Errors
    /// If it names a protocol, service or version of TLS that this Weir does not know.
    pub fn into_insight(self) -> Result<Option<Box<Insight>>, String> {
        if self == Self::default() {
            return Ok(None);
        }
        let known = |name: Option<String>, find: fn(&str) -> Option<&'static str>| match name {
            None => Ok(None),
            Some(name) => find(&name)
                .map(Some)
                .ok_or_else(|| format!("`{name}` is unknown to this version")),
        };
        let protocol = |name: &str| proto::by_name(name).map(Protocol::name);
        let tls = match self.tls {
            None => None,
            Some(tls) => Some(Box::new(Tls {
                sni: tls.sni,
                alpn: tls.alpn,
                version: known(tls.version, tls_version)?,
                ja4: tls.ja4,
                has_ech: tls.ech,
            })),
        };
        Ok(Some(Box::new(Insight {
            app: known(self.app, protocol)?,
            app_before: known(self.app_before, protocol)?,
            service: known(self.service, services::by_name)?,
            host: self.server_name,
            resolved_name: self.resolved_name,
            tls,
            http: self.http.map(|http| {
                Box::new(Http {
                    host: http.host,
                    method: http.method,
                    path: http.path,
                    user_agent: http.user_agent,
                    status: http.status,
                    content_type: http.content_type,
                    content_length: [http.request_content_length, http.content_length],
                    referer: http.referer,
                    requests: http.requests,
                    refused: http.refused,
                })
            }),
            dns: self.dns.map(|dns| {
                Box::new(Dns {
                    query: dns.query,
                    rcode: dns.rcode,
                    queries: dns.queries,
                    answers: dns.answers,
                })
            }),
            ssh: self.ssh.map(|ssh| {
                Box::new(Ssh {
                    client: ssh.client,
                    server: ssh.server,
                    hassh: ssh.hassh,
                    hassh_server: ssh.hassh_server,
                })
            }),
            user: self.user,
            about: self.about,
            has_clear_credential: self.clear_credential,
            logins_attempted: self.logins_attempted,
            logins_succeeded: self.logins_succeeded,
            logins_failed: self.logins_failed,
            anomalies: self.anomalies,
            alerts: self.alerts,
            transactions: self.transactions,
            has_payload: self.payload,
        })))
    }
}

/// Versions as EVE writes them, with their numbers on the wire. DTLS counts down from 1.0.
pub(crate) const TLS_VERSIONS: &[(&str, u64)] = &[
    ("SSLv2", 0x0200),
    ("SSLv3", 0x0300),
    ("TLSv1", 0x0301),
    ("TLS 1.0", 0x0301),
    ("TLS 1.1", 0x0302),
    ("TLS 1.2", 0x0303),
    ("TLS 1.3", 0x0304),
    ("DTLS 1.0", 0xfeff),
    ("DTLS 1.2", 0xfefd),
    ("DTLS 1.3", 0xfefc),
];

fn tls_version(name: &str) -> Option<&'static str> {
    TLS_VERSIONS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(known, _)| *known)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = |text: &str| Some(text.into());
        let insight = Insight {
            app: Some("ntp"),
            service: services::of_name("github.com"),
            host: text("api.github.com"),
            resolved_name: text("lb.github.com"),
            tls: Some(Box::new(Tls {
                sni: text("api.github.com"),
                version: Some("TLS 1.3"),
                ..Tls::default()
            })),
            http: Some(Box::new(Http {
                method: text("GET"),
                content_length: [None, Some(5)],
                requests: 2,
                ..Http::default()
            })),
            dns: Some(Box::new(Dns {
                rcode: text("NXDOMAIN"),
                ..Dns::default()
            })),
            ssh: Some(Box::new(Ssh {
                client: text("OpenSSH_9"),
                ..Ssh::default()
            })),
            user: text("alice"),
            has_clear_credential: true,
            logins_failed: 3,
            anomalies: 1,
            alerts: 2,
            has_payload: true,
            ..Insight::default()
        };
        let written = serde_json::to_string(&JsonInsight::of(&insight)).expect("JSON");
        let read: JsonInsight = serde_json::from_str(&written).expect("JSON");
        assert_eq!(read.into_insight(), Ok(Some(Box::new(insight))), "{written}");
        assert_eq!(JsonInsight::default().into_insight(), Ok(None));
    }

    #[test]
    fn what_is_unknown_is_refused_in_words() {
        let read: JsonInsight = serde_json::from_str(r#"{"app": "from-the-future"}"#).expect("JSON");
        assert_eq!(
            read.into_insight(),
            Err("`from-the-future` is unknown to this version".to_owned())
        );
    }
}
