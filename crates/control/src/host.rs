//! What the admin API asks of the running Weir.

use policy::filter::Filter;
use tokio::sync::mpsc;

use crate::status::{Aggregate, Status};

/// The running Weir, as the admin API sees it.
///
/// Calls may block for as long as a look at every flow takes: the server makes them on threads made
/// for that, a few at a time.
pub trait Host: Send + Sync + 'static {
    /// Everything counted, and what is wrong.
    fn status(&self) -> Status;

    /// Flows that pass the query, in its order.
    fn flows(&self, query: &FlowQuery) -> FlowPage;

    /// The flow with this identifier, active or lately ended, as one JSON object.
    fn flow(&self, id: u64) -> Option<String>;

    /// Packets that are in no flow, by service.
    fn aggregates(&self) -> Vec<Aggregate>;

    /// Every BPF program of the host, as one JSON value.
    ///
    /// # Errors
    /// One sentence on why they cannot be listed.
    fn programs(&self) -> Result<serde_json::Value, String>;

    /// Flow records from now on, as flows end. Dropping the subscription ends it. The host never
    /// waits for a slow reader: what does not fit is counted.
    fn subscribe(&self, filter: Option<Filter>, format: RecordFormat) -> Subscription;

    /// The gateway, if it is on.
    fn gateway(&self) -> Option<&dyn crate::gateway::GatewayHost> {
        None
    }

    /// Hashes ([`crate::token::hash`]) of all tokens that are valid.
    fn token_hashes(&self) -> Vec<crate::token::TokenHash>;

    /// Makes a token ([`crate::token::Token`]), keeps its hash, and gives its text.
    ///
    /// # Errors
    /// One sentence on why it cannot be kept.
    fn create_token(&self) -> Result<String, String>;
}

/// Which flows, and in what order.
#[derive(Clone, Debug, Default)]
pub struct FlowQuery {
    pub filter: Option<Filter>,
    pub sort: Sort,
    pub state: StateChoice,
    /// Most flows to give.
    pub limit: usize,
}

/// What flows are sorted by, the largest or latest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Frame bytes of both directions.
    #[default]
    Bytes,
    /// Packets of both directions.
    Packets,
    /// Present rate in bits per second.
    Rate,
    /// Time of the last packet.
    Last,
    /// Time of the first packet.
    Start,
    /// Time from the first packet to the last.
    Duration,
}

/// Whether flows live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateChoice {
    /// In the flow table now.
    #[default]
    Active,
    /// Ended lately, as many as are kept.
    Ended,
    All,
}

/// How a flow record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// With the names filters use.
    #[default]
    Json,
    /// Suricata's EVE JSON.
    Eve,
}

/// An answer to a [`FlowQuery`].
#[derive(Clone, Debug, Default)]
pub struct FlowPage {
    /// One JSON object each, without line feeds, with `rate_pps` and `rate_bps`.
    pub flows: Vec<String>,
    /// How many pass the filter, whether or not they are in `flows`.
    pub total_matching: u64,
    /// One sentence on what may be missing.
    pub incomplete: Option<String>,
}

/// The reader's end of a stream of flow records.
#[derive(Debug)]
pub struct Subscription {
    /// One JSON object each, without line feeds. Bounded by the host.
    pub lines: mpsc::Receiver<String>,
    /// Records that did not fit so far; the host adds to it.
    pub lost: std::sync::Arc<std::sync::atomic::AtomicU64>,
}
