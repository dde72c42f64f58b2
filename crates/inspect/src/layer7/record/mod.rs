//! Records of layer 7: one for each transaction or message worth telling, as EVE has them.
//!
//! What is read again by Weir itself (signatures, detectors, the story of a flow) has a type of its own;
//! the rest is [`Fields`].

mod alert;
mod anomaly;
mod arp;
mod dns;
mod ftp;
mod http;
mod quic;
mod smtp;
mod ssh;
mod tls;

pub use alert::Alert;
pub use anomaly::{Anomaly, Severity};
pub use arp::Arp;
pub use dns::{Dns, DnsAnswer, DnsData, DnsOption, DnsQuestion, Soa, Srv, Sshfp};
pub use ftp::{Ftp, FtpData};
pub use http::{Http, Http2, Http2Setting, Http2Side, HttpField};
pub use quic::{Quic, QuicExtension};
pub use smtp::{Email, Smtp};
pub use ssh::{Hassh, Ssh, SshSide};
pub use tls::{Certificate, Ja3, Tls};

use super::protocol::Side;

/// One record and what it belongs to.
#[derive(Clone, Debug)]
pub struct Event {
    /// Time of the packet that completed it, in nanoseconds since 1970.
    pub ts_ns: u64,
    pub key: wire::FlowKey,
    /// As [`crate::record::FlowRecord::id`].
    pub flow_id: u64,
    /// The way the packets of the protocol's client go.
    pub client: wire::Direction,
    /// Who sent what it tells of.
    pub side: Side,
    /// Number of the record within its flow, as transactions are counted; none of an anomaly.
    pub tx_id: Option<u32>,
    /// The flow's protocol, as `app_proto` has it, when it happened.
    pub app: Option<&'static str>,
    pub record: Record,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Http(Box<Http>),
    Tls(Box<Tls>),
    Quic(Box<Quic>),
    /// DNS, mDNS and LLMNR.
    Dns(Box<Dns>),
    Ssh(Box<Ssh>),
    Smtp(Box<Smtp>),
    Ftp(Box<Ftp>),
    FtpData(Box<FtpData>),
    Anomaly(Anomaly),
    /// Of no flow: [`Event::flow_id`] is 0.
    Arp(Box<Arp>),
    /// A signature matched.
    Alert(Box<Alert>),
    /// Any other protocol.
    Fields(Box<Fields>),
}

impl Record {
    /// A record of a protocol without a type of its own.
    #[must_use]
    pub fn fields(event_type: &'static str, fields: serde_json::Map<String, serde_json::Value>) -> Self {
        Self::Fields(Box::new(Fields { event_type, fields }))
    }

    /// `event_type` in EVE.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tls(_) => "tls",
            Self::Quic(_) => "quic",
            Self::Dns(dns) => dns.protocol,
            Self::Ssh(_) => "ssh",
            Self::Smtp(_) => "smtp",
            Self::Ftp(_) => "ftp",
            Self::FtpData(_) => "ftp_data",
            Self::Anomaly(_) => "anomaly",
            Self::Arp(_) => "arp",
            Self::Alert(_) => "alert",
            Self::Fields(fields) => fields.event_type,
        }
    }

    /// What stands in the event under [`Self::event_type`] (`email` of SMTP beside it is left to the writer).
    ///
    /// # Errors
    /// Those of serde_json, of which none is expected: all keys are texts.
    pub fn body(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Self::Http(http) => serde_json::to_value(http),
            Self::Tls(tls) => serde_json::to_value(tls),
            Self::Quic(quic) => serde_json::to_value(quic),
            Self::Dns(dns) => serde_json::to_value(dns),
            Self::Ssh(ssh) => serde_json::to_value(ssh),
            Self::Smtp(smtp) => serde_json::to_value(smtp),
            Self::Ftp(ftp) => serde_json::to_value(ftp),
            Self::FtpData(data) => serde_json::to_value(data),
            Self::Anomaly(anomaly) => serde_json::to_value(anomaly),
            Self::Arp(arp) => serde_json::to_value(arp),
            Self::Alert(alert) => serde_json::to_value(alert),
            Self::Fields(fields) => Ok(serde_json::Value::Object(fields.fields.clone())),
        }
    }
}

/// A record of any protocol, with the names EVE has for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    /// Also the name of the object in the event.
    pub event_type: &'static str,
    pub fields: serde_json::Map<String, serde_json::Value>,
}
