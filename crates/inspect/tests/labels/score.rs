//! Ours against the labels': counts, and a line for each miss.

use std::collections::BTreeMap;

use inspect::layer7::Record;

use crate::captures::{Ends, Ours};
use crate::truth::{Fields, Request};

/// How often something was right.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) right: u64,
    pub(crate) all: u64,
}

impl Share {
    fn add(&mut self, is_right: bool) {
        self.right += u64::from(is_right);
        self.all += 1;
    }

    /// In percent; 100 of nothing.
    pub(crate) fn percent(self) -> f64 {
        if self.all == 0 {
            return 100.0;
        }
        self.right as f64 * 100.0 / self.all as f64
    }
}

/// One protocol.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    /// Flows that are of it, and those that we say are.
    pub(crate) flows: u64,
    pub(crate) right: u64,
    /// Flows of others that we take for it.
    pub(crate) taken_wrongly: u64,
}

/// What came of all captures.
#[derive(Default)]
pub(crate) struct Score {
    /// By our name.
    pub(crate) protocols: BTreeMap<&'static str, Row>,
    /// Of captures, by file: flows of protocols that we have a parser for.
    pub(crate) files: BTreeMap<String, Share>,
    /// By field.
    pub(crate) fields: BTreeMap<&'static str, Share>,
    pub(crate) misses: Vec<String>,
}

impl Score {
    /// One flow whose protocol is one of these; `is_covered` says for which we have a parser.
    pub(crate) fn protocol(
        &mut self,
        file: &str,
        ends: &Ends,
        expected: &[&'static str],
        ours: Option<&Ours>,
        is_covered: impl Fn(&str) -> bool,
    ) {
        let found = ours.and_then(|ours| {
            let fits = |app: &&str| expected.contains(app);
            ours.apps().find(fits).or_else(|| ours.apps().next())
        });
        let is_right = found.is_some_and(|app| expected.contains(&app));
        let covered = expected.iter().any(|name| is_covered(name));
        // The table has a row for the name a parser has, so that one protocol has one row.
        let name = found.filter(|_| is_right).unwrap_or_else(|| {
            let parsed = expected.iter().find(|name| is_covered(name));
            parsed.unwrap_or(&expected[0])
        });
        let row = self.protocols.entry(name).or_default();
        row.flows += 1;
        row.right += u64::from(is_right);
        if let Some(app) = found.filter(|_| !is_right) {
            self.protocols.entry(app).or_default().taken_wrongly += 1;
        }
        // A flow of a protocol we do not know is wrong only if we say that it is another.
        if covered || found.is_some() {
            self.files.entry(file.to_owned()).or_default().add(is_right);
        }
        if !is_right && (covered || found.is_some()) {
            let (name, found) = (expected.join("|"), found.unwrap_or("nothing"));
            self.misses.push(format!("{file}: {ends}: {name}, found {found}"));
        }
    }

    /// The fields of one flow.
    pub(crate) fn fields(&mut self, file: &str, ends: &Ends, expected: &Fields, ours: Option<&Ours>) {
        let none = Ours::default();
        let ours = ours.unwrap_or(&none);
        let mut check = |field: &'static str, expected: &str, found: &[String], is_right: bool| {
            self.fields.entry(field).or_default().add(is_right);
            if !is_right {
                let found = if found.is_empty() {
                    "nothing".to_owned()
                } else {
                    found.join(" ")
                };
                self.misses
                    .push(format!("{file}: {ends}: {field} {expected}, found {found}"));
            }
        };
        let mut check_any = |field, expected: &Option<String>, found: Vec<String>| {
            if let Some(expected) = expected {
                let is_right = found.iter().any(|found| is_same(found, expected));
                check(field, expected, &found, is_right);
            }
        };
        check_any("sni", &expected.sni, of_tls(ours, |tls| &tls.sni));
        check_any("ja4", &expected.ja4, of_tls(ours, |tls| &tls.ja4));
        let hosts = ours.insights.iter().filter_map(|insight| insight.host.as_deref());
        check_any("host", &expected.host, hosts.map(str::to_owned).collect());
        let agents = ours.insights.iter().filter_map(|insight| {
            let http = insight.http.as_ref()?;
            http.user_agent.as_deref().map(str::to_owned)
        });
        check_any("user agent", &expected.user_agent, agents.collect());

        let asked = questions(ours);
        for name in &expected.dns_names {
            let is_right = asked.iter().any(|asked| is_same(asked, name));
            check("dns name", name, &asked, is_right);
        }
        let banners: Vec<String> = ours
            .insights
            .iter()
            .filter_map(|insight| insight.ssh.as_ref())
            .flat_map(|ssh| [&ssh.client, &ssh.server])
            .filter_map(|software| software.as_deref().map(str::to_owned))
            .collect();
        for banner in &expected.ssh_banners {
            let is_right = banners.iter().any(|software| banner.contains(software.as_str()));
            check("ssh banner", banner, &banners, is_right);
        }

        let requests = requests(ours);
        for (at, expected) in expected.requests.iter().enumerate() {
            let found = requests.get(at);
            let shown: Vec<_> = found.map(|found| format!("{found:?}")).into_iter().collect();
            let mut field = |field, is_right: fn(&Request, &Request) -> bool| {
                let is_right = found.is_some_and(|found| is_right(found, expected));
                check(field, &format!("{expected:?} ({at})"), &shown, is_right);
            };
            field("http request", |found, expected| {
                found.method == expected.method && is_same_url(&found.url, &expected.url)
            });
            if expected.host.is_some() {
                field("http host", |found, expected| host_of(found) == host_of(expected));
            }
            if expected.user_agent.is_some() {
                field("http user agent", |found, expected| {
                    found.user_agent == expected.user_agent
                });
            }
            if expected.content_length.is_some() {
                field("http request length", |found, expected| {
                    found.content_length == expected.content_length
                });
            }
        }
        let responses = responses(ours);
        for (at, expected) in expected.responses.iter().enumerate() {
            let is_right = responses.get(at) == Some(expected);
            let shown: Vec<_> = responses
                .get(at)
                .map(|found| format!("{found:?}"))
                .into_iter()
                .collect();
            check("http response", &format!("{expected:?} ({at})"), &shown, is_right);
        }
    }
}

fn of_tls(ours: &Ours, field: impl Fn(&inspect::layer7::insight::Tls) -> &Option<Box<str>>) -> Vec<String> {
    let all = ours.insights.iter().filter_map(|insight| insight.tls.as_deref());
    all.filter_map(|tls| field(tls).as_deref().map(str::to_owned))
        .collect()
}

/// The labels hold so many characters of a URL.
fn is_same_url(found: &str, expected: &str) -> bool {
    const LABEL_LEN: usize = 300;
    let is_cut = expected.chars().count() == LABEL_LEN;
    found == expected || is_cut && found.starts_with(expected)
}

/// Names are the same in any case, and with or without the root's dot.
fn is_same(one: &str, other: &str) -> bool {
    let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    bare(one) == bare(other)
}

fn questions(ours: &Ours) -> Vec<String> {
    let messages = ours.events.iter().filter_map(|event| match &event.record {
        Record::Dns(dns) => Some(dns),
        _ => None,
    });
    let mut names: Vec<String> = messages
        .flat_map(|dns| &dns.queries)
        .map(|query| query.rrname.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn requests(ours: &Ours) -> Vec<Request> {
    let all = ours.events.iter().filter_map(|event| match &event.record {
        Record::Http(http) => Some(http),
        _ => None,
    });
    all.filter(|http| http.http_method.is_some())
        .map(|http| Request {
            method: http.http_method.clone().unwrap_or_default(),
            host: http.hostname.clone(),
            url: http.url.clone().unwrap_or_default(),
            user_agent: http.http_user_agent.clone(),
            content_length: http.request_content_length,
        })
        .collect()
}

fn responses(ours: &Ours) -> Vec<(u16, Option<u64>)> {
    let all = ours.events.iter().filter_map(|event| match &event.record {
        Record::Http(http) => Some(http),
        _ => None,
    });
    all.filter_map(|http| Some((http.status?, http.content_length)))
        .collect()
}

/// Without its port.
fn host_of(request: &Request) -> Option<String> {
    let host = request.host.as_deref()?;
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    Some(bare.trim_matches(['[', ']']).to_ascii_lowercase())
}
