//! The configuration file of `weir run`.
//!
//! A file is read in three steps: YAML with the line of each node, a check of that against the schema of
//! the raw types ([`document`]), and what only a closer look tells, here. Every error of every step is
//! reported at once. Only [`parse`] makes a [`Config`]; the defaults live here.

mod document;
pub(crate) mod gateway;
pub(crate) mod secrets;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent::load::Budgets;
use policy::gateway::compile::Outside;
use policy::gateway::document::{self as documents, Documents};
use schemars::JsonSchema;
use serde::Deserialize;

/// A file that says everything, with the defaults.
pub(crate) const EXAMPLE: &str = include_str!("example.yaml");

/// Longest file that is read.
const FILE_LEN_MAX: u64 = 1 << 20;

const FLOW_ROWS_DEFAULT: u32 = 131_072;

/// What the file says, as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "Weir", description = "The configuration file of `weir run`.")]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    agent: Option<RawAgent>,
    control: Option<RawControl>,
    store: Option<RawStore>,
    gateway: Option<documents::Gateway>,
    /// Who answers for models.
    providers: Option<Vec<documents::Provider>>,
    /// Names of models besides `provider/model`.
    models: Option<Vec<documents::Model>>,
    /// Who may ask.
    consumers: Option<Vec<documents::Consumer>>,
    /// REST services.
    services: Option<Vec<documents::Service>>,
    /// Prompts published as REST endpoints.
    prompts: Option<Vec<documents::Prompt>>,
    /// Rules for what is said.
    guardrails: Option<Vec<documents::Guardrail>>,
}

/// Where data is kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    /// A folder; by default /var/lib/weir, or weir in $XDG_DATA_HOME for others than root.
    data: Option<String>,
}

/// What is observed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawAgent {
    /// Interfaces to observe; by default that of the default route.
    interfaces: Option<Vec<String>>,
    /// Count what comes in at native XDP (on) or TCX (off).
    xdp: Option<Switch>,
    /// Name of this instance: letters, digits, `-` and `_`, at most 32.
    instance: Option<String>,
    /// Leave programs and rows in the kernel at the end.
    persist: Option<bool>,
    /// Rows of the kernel's flow table.
    #[schemars(range(min = 1024, max = 16_777_216))]
    flow_rows: Option<u32>,
    /// New flows admitted per second besides completed handshakes.
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    new_flows_per_s: Option<u32>,
    /// Country and network databases in MaxMind's format (MMDB).
    geoip: Option<Vec<PathBuf>>,
}

/// The admin API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawControl {
    /// Address and port of the admin API, besides its local socket.
    listen: Option<String>,
    /// Path of the local socket.
    socket: Option<String>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    On,
    Off,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) agent: Agent,
    pub(crate) control: Control,
    /// Where data is kept, if not where it usually is.
    pub(crate) data: Option<PathBuf>,
    /// What the gateway is told; checked as far as the schema goes. `None`: the gateway is off.
    pub(crate) gateway: Option<Documents>,
}

/// What is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Empty for that of the default route.
    pub(crate) interfaces: Vec<String>,
    pub(crate) xdp: Switch,
    pub(crate) instance: Option<String>,
    pub(crate) persist: bool,
    pub(crate) flow_rows: u32,
    pub(crate) new_flows_per_s: u32,
    pub(crate) geoip: Vec<PathBuf>,
}

/// The admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) listen: SocketAddr,
    pub(crate) socket: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            agent: Agent {
                interfaces: Vec::new(),
                xdp: Switch::Off,
                instance: None,
                persist: false,
                flow_rows: FLOW_ROWS_DEFAULT,
                new_flows_per_s: Budgets::default().first_packets_per_s,
                geoip: Vec::new(),
            },
            control: Control {
                listen: SocketAddr::from(([127, 0, 0, 1], 9080)),
                socket: None,
            },
            data: None,
            gateway: None,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From 1; 0 if it has no place.
    line: usize,
    /// `agent.flow_rows`; empty for the file as a whole.
    field: String,
    /// What was expected, what was found, what to do.
    words: String,
}

/// Everything that is wrong with a file, in the order of lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct ConfigError {
    file: String,
    faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file)?;
            if fault.line > 0 {
                write!(f, ":{}", fault.line)?;
            }
            if !fault.field.is_empty() {
                write!(f, ": {}", fault.field)?;
            }
            write!(f, ": {}", fault.words)?;
        }
        Ok(())
    }
}

/// Reads and checks a file, and compiles what it tells the gateway.
pub(crate) fn read_and_compile(path: &Path) -> Result<Config, ConfigError> {
    read_with(path, Some(&gateway::Process))
}

fn read_with(path: &Path, outside: Option<&dyn Outside>) -> Result<Config, ConfigError> {
    let text = read_text(path)?;
    parse(&text, outside).map_err(|faults| ConfigError {
        file: path.display().to_string(),
        faults,
    })
}

/// The text of a file, if it is one and not too long.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let unreadable = |words: String| ConfigError {
        file: path.display().to_string(),
        faults: vec![Fault {
            line: 0,
            field: String::new(),
            words,
        }],
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|opened| opened.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(unreadable(format!(
            "longer than {FILE_LEN_MAX} bytes: expected a configuration file"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        unreadable(format!(
            "not UTF-8 text after {} bytes",
            error.utf8_error().valid_up_to()
        ))
    })
}

/// Checks the text of a file; with `outside`, down to what the gateway makes of it.
fn parse(text: &str, outside: Option<&dyn Outside>) -> Result<Config, Vec<Fault>> {
    let document = document::load(text)?;
    let schema = schema();
    let mut checked = document::check(&document, &schema);
    let raw: RawConfig = match serde_json::from_value(checked.value.take()) {
        Ok(raw) => raw,
        Err(error) => {
            // The check covers what the schema says; what serde refuses beyond that has no line.
            checked.faults.push(Fault {
                line: 0,
                field: String::new(),
                words: error.to_string(),
            });
            RawConfig::default()
        }
    };
    let config = build(raw, &mut checked);
    // What failed already is not in the documents, and would be missed a second time.
    if let (Some(outside), Some(documents), true) = (outside, &config.gateway, checked.faults.is_empty())
        && let Err(faults) = gateway::compile(documents, outside, 1)
    {
        for fault in faults {
            checked.fault(&fault.field, fault.words);
        }
    }
    if checked.faults.is_empty() {
        Ok(config)
    } else {
        checked.faults.sort_by_key(|fault| fault.line);
        Err(checked.faults)
    }
}

/// What the schema cannot say. Faulty fields keep their default.
fn build(raw: RawConfig, checked: &mut document::Checked) -> Config {
    let mut config = Config::default();
    let agent = raw.agent.unwrap_or_default();
    match agent.interfaces {
        Some(names) if names.is_empty() => checked.fault(
            "agent.interfaces",
            "expected at least one name, or leave it out for the interface of the default route",
        ),
        Some(names) => {
            for (at, name) in names.iter().enumerate() {
                // The kernel's IFNAMSIZ leaves 15 bytes.
                if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) {
                    checked.fault(
                        &format!("agent.interfaces[{at}]"),
                        format!("expected the name of an interface, as eth0, found `{name}`"),
                    );
                }
            }
            config.agent.interfaces = names;
        }
        None => {}
    }
    if let Some(name) = agent.instance {
        match agent::instance::check_name(&name) {
            Ok(()) => config.agent.instance = Some(name),
            Err(error) => checked.fault("agent.instance", error.to_string()),
        }
    }
    config.agent.xdp = agent.xdp.unwrap_or(config.agent.xdp);
    config.agent.persist = agent.persist.unwrap_or(config.agent.persist);
    config.agent.flow_rows = agent.flow_rows.unwrap_or(config.agent.flow_rows);
    config.agent.new_flows_per_s = agent.new_flows_per_s.unwrap_or(config.agent.new_flows_per_s);
    config.agent.geoip = agent.geoip.unwrap_or_default();
    let control = raw.control.unwrap_or_default();
    if let Some(listen) = control.listen {
        match listen.parse() {
            Ok(address) => config.control.listen = address,
            Err(_) => checked.fault(
                "control.listen",
                format!(
                    "expected an address and a port, as 127.0.0.1:9080 or \"[::1]:9080\", found `{listen}`"
                ),
            ),
        }
    }
    if let Some(socket) = control.socket {
        if socket.starts_with('/') {
            config.control.socket = Some(socket.into());
        } else {
            checked.fault(
                "control.socket",
                format!("expected a path from the root, as /run/weir/weir.sock, found `{socket}`"),
            );
        }
    }
    if let Some(data) = raw.store.and_then(|store| store.data) {
        if data.starts_with('/') {
            config.data = Some(data.into());
        } else {
            checked.fault(
                "store.data",
                format!("expected a path from the root, as /var/lib/weir, found `{data}`"),
            );
        }
    }
    let has_documents = raw.gateway.is_some() || raw.providers.is_some() || raw.services.is_some();
    if has_documents {
        config.gateway = Some(Documents {
            gateway: Some(raw.gateway.unwrap_or_default()),
            providers: raw.providers.unwrap_or_default(),
            models: raw.models.unwrap_or_default(),
            consumers: raw.consumers.unwrap_or_default(),
            services: raw.services.unwrap_or_default(),
            prompts: raw.prompts.unwrap_or_default(),
            guardrails: raw.guardrails.unwrap_or_default(),
        });
    }
    config
}

/// The JSON Schema of the file.
pub(crate) fn schema() -> serde_json::Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings
        .into_generator()
        .into_root_schema_for::<RawConfig>()
        .to_value()
}

#[cfg(test)]
mod tests;
