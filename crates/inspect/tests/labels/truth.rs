//! What labels say of a flow.

use std::collections::HashMap;

use serde_json::Value;

/// What other programs call protocols, and what we call them.
pub(crate) struct Names(HashMap<(&'static str, &'static str), Vec<&'static str>>);

impl Names {
    pub(crate) fn new() -> Self {
        let table = include_str!("protocols.txt");
        let rows = table.lines().map(str::trim);
        let rows = rows.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut names = HashMap::new();
        for line in rows {
            let cells: Vec<_> = line.split_whitespace().collect();
            let &[source, theirs, ours] = cells.as_slice() else {
                panic!("expected a source, a name and our names: {line}");
            };
            let ours = ours.split(',').filter(|name| *name != "-").collect();
            assert!(names.insert((source, theirs), ours).is_none(), "twice: {line}");
        }
        Self(names)
    }

    /// Our names for what a flow's label says it is, the usual one first; none if it says nothing that
    /// can be judged.
    pub(crate) fn of(&self, label_source: &str, flow: &Value) -> Vec<&'static str> {
        if label_source.starts_with("ndpi") {
            // All else is guessed by address or port.
            if !flow["confidence"]
                .as_str()
                .is_some_and(|confidence| confidence.starts_with("DPI"))
            {
                return Vec::new();
            }
            let name = flow["proto"].as_str().unwrap_or("");
            return self.find("ndpi", name.split('.').next().unwrap_or(name));
        }
        if label_source.starts_with("arkime") {
            let protocols = flow["protocols"].as_array().into_iter().flatten();
            return protocols
                .filter_map(Value::as_str)
                .flat_map(|name| self.find("arkime", name))
                .collect();
        }
        if label_source.starts_with("zeek") {
            let services = flow["service"].as_str().unwrap_or("").split(',');
            return services
                .filter(|name| !name.starts_with('-'))
                .flat_map(|name| self.find("zeek", name))
                .collect();
        }
        Vec::new()
    }

    fn find(&self, source: &'static str, name: &str) -> Vec<&'static str> {
        let found = self
            .0
            .iter()
            .find(|((of, theirs), _)| *of == source && *theirs == name);
        found.map_or_else(Vec::new, |(_, ours)| ours.clone())
    }
}

/// One request, as tshark tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) host: Option<String>,
    pub(crate) url: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) content_length: Option<u64>,
}

/// Fields of a flow. What is empty is not known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) sni: Option<String>,
    pub(crate) ja4: Option<String>,
    pub(crate) requests: Vec<Request>,
    /// Status and content length of each response.
    pub(crate) responses: Vec<(u16, Option<u64>)>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) ssh_banners: Vec<String>,
    /// nDPI's: SNI, HTTP host or DNS question.
    pub(crate) host: Option<String>,
    pub(crate) user_agent: Option<String>,
}

impl Fields {
    /// tshark's facts of the flow where there are any, else those of its label.
    pub(crate) fn of(label_source: &str, label: Option<&Value>, tshark: Option<&Value>) -> Self {
        let mut fields = Self::default();
        if let Some(flow) = label {
            fields.sni = text(&flow["sni"]);
            fields.ja4 = text(&flow["ja4"]);
            if label_source.starts_with("ndpi") {
                fields.host = text(&flow["host"]);
                fields.user_agent = text(&flow["user_agent"]);
            }
            if label_source.starts_with("tshark") {
                fields.tshark(flow);
            }
        }
        if let Some(flow) = tshark {
            fields.sni = text(&flow["sni"]).or(fields.sni);
            fields.ja4 = fields.ja4.or_else(|| text(&flow["ja4"]));
            fields.tshark(flow);
        }
        fields
    }

    fn tshark(&mut self, flow: &Value) {
        // SSDP and SIP look like HTTP to it.
        if flow["l4"] == "tcp" {
            let requests = flow["http"].as_array().into_iter().flatten();
            self.requests = requests
                .map(|request| Request {
                    method: text(&request["method"]).unwrap_or_default(),
                    host: text(&request["host"]),
                    url: text(&request["uri"]).unwrap_or_default(),
                    user_agent: text(&request["user_agent"]),
                    content_length: number(&request["content_length"]),
                })
                .collect();
            let responses = flow["http_resp"].as_array().into_iter().flatten();
            self.responses = responses
                .filter_map(|response| {
                    let code = u16::try_from(number(&response["code"])?).ok()?;
                    // What comes before a response is told with it.
                    let is_interim = (100..200).contains(&code) && code != 101;
                    (!is_interim).then(|| (code, number(&response["content_length"])))
                })
                .collect();
        }
        self.dns_names = texts(&flow["dns_qname"]);
        self.ssh_banners = texts(&flow["ssh_banner"]);
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}
