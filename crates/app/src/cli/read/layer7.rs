//! What payloads say of a capture as a whole.

use std::collections::BTreeMap;

use inspect::geo::Country;
use inspect::layer7::record::{Certificate, Severity};
use inspect::layer7::{Event, Record};
use inspect::record::FlowRecord;
use inspect::time::Rfc3339;

use super::tally::{Sum, Tally};
use crate::cli::text::{Tone, shortened};

/// Signatures and kinds of anomalies told apart.
const ANOMALIES_MAX: usize = 1000;
/// Longest name shown, in characters.
const NAME_MAX: usize = 60;
/// Examples of an oddity.
const EXAMPLES_MAX: usize = 3;

/// One list of the page.
pub(super) struct List {
    pub(super) title: &'static str,
    pub(super) rows: Vec<(String, Sum)>,
    /// What is in none of the rows.
    pub(super) others: Sum,
}

/// Sums over flows and records.
pub(super) struct Layer7 {
    apps: Tally<&'static str>,
    services: Tally<&'static str>,
    names: Tally<Box<str>>,
    questions: Tally<Box<str>>,
    countries: Tally<Country>,
    anomalies: BTreeMap<(&'static str, Option<&'static str>), (Severity, u64)>,
    /// By severity, 1 being the worst, and name.
    alerts: BTreeMap<(u8, String), Oddity>,
    clear_credentials: Oddity,
    failed_log_ins: Oddity,
    expired: Oddity,
    not_yet_valid: Oddity,
    old_tls: Oddity,
}

/// How often something was seen, and where.
#[derive(Default)]
struct Oddity {
    n: u64,
    examples: Vec<String>,
}

impl Oddity {
    fn add(&mut self, n: u64, example: impl FnOnce() -> String) {
        if n == 0 {
            return;
        }
        self.n += n;
        if self.examples.len() < EXAMPLES_MAX {
            let example = example();
            if !self.examples.contains(&example) {
                self.examples.push(example);
            }
        }
    }

    fn text(&self) -> String {
        let number = crate::cli::text::grouped(self.n);
        if self.examples.is_empty() {
            return number;
        }
        let more = if self.n > self.examples.len() as u64 {
            ", …"
        } else {
            ""
        };
        format!("{number}: {}{more}", self.examples.join(", "))
    }
}

impl Default for Layer7 {
    fn default() -> Self {
        Self {
            apps: Tally::new(),
            services: Tally::new(),
            names: Tally::new(),
            questions: Tally::new(),
            countries: Tally::new(),
            anomalies: BTreeMap::new(),
            alerts: BTreeMap::new(),
            clear_credentials: Oddity::default(),
            failed_log_ins: Oddity::default(),
            expired: Oddity::default(),
            not_yet_valid: Oddity::default(),
            old_tls: Oddity::default(),
        }
    }
}

impl Layer7 {
    /// A flow that no other carries.
    pub(super) fn flow(&mut self, record: &FlowRecord) {
        for place in [&record.src_place, &record.dst_place] {
            if let Some(country) = place.country {
                self.countries.add(country, record);
            }
        }
        let app = match record.insight.as_deref() {
            Some(insight) => insight.app.or(insight.has_payload.then_some("unknown")),
            None => None,
        };
        if let Some(app) = app {
            self.apps.add(app, record);
        }
        self.inner(record);
    }

    /// Any flow, also one inside a tunnel.
    pub(super) fn inner(&mut self, record: &FlowRecord) {
        let Some(insight) = record.insight.as_deref() else {
            return;
        };
        if let Some(service) = insight.service {
            self.services.add(service, record);
        }
        let is_dns = matches!(insight.app, Some("dns" | "mdns" | "llmnr" | "nbns"));
        if let Some(name) = &insight.host
            && !name.is_empty()
        {
            let names = if is_dns {
                &mut self.questions
            } else {
                &mut self.names
            };
            names.add(name.clone(), record);
        }
        let app = insight.app.unwrap_or("?");
        let who = || match &insight.user {
            Some(user) => format!("{app} {user}@{}", record.dst),
            None => format!("{app} {}", record.dst),
        };
        self.clear_credentials
            .add(insight.has_clear_credential.into(), who);
        self.failed_log_ins.add(insight.logins_failed.into(), who);
        let version = insight.tls.as_deref().and_then(|tls| tls.version);
        if let Some(version) = version.filter(|version| OLD_TLS.contains(version)) {
            self.old_tls.add(1, || format!("{version} {}", record.dst));
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match &event.record {
            Record::Anomaly(anomaly) => {
                let key = (anomaly.event, event.app);
                if self.anomalies.len() < ANOMALIES_MAX || self.anomalies.contains_key(&key) {
                    self.anomalies.entry(key).or_insert((anomaly.severity, 0)).1 += 1;
                }
            }
            Record::Alert(alert) => {
                let key = (alert.severity, alert.signature.clone());
                if self.alerts.len() < ANOMALIES_MAX || self.alerts.contains_key(&key) {
                    let client = event.key.source(event.client).0.to_ip(event.key.family);
                    self.alerts
                        .entry(key)
                        .or_default()
                        .add(1, || format!("from {client}"));
                }
            }
            Record::Tls(tls) => {
                if let Some(certificate) = &tls.certificate {
                    self.certificate(certificate, event.ts_ns);
                }
            }
            _ => {}
        }
    }

    /// Its times are written so that they compare as texts, to the second.
    fn certificate(&mut self, certificate: &Certificate, ts_ns: u64) {
        let now = Rfc3339(ts_ns).to_string();
        let now = now.get(..19).unwrap_or("");
        let is_before =
            |one: &str, other: &str| one.len() >= 19 && other.len() >= 19 && one[..19] < other[..19];
        let subject = || shortened(&certificate.subject, NAME_MAX);
        if is_before(&certificate.notafter, now) {
            self.expired
                .add(1, || format!("{} until {}", subject(), certificate.notafter));
        }
        if is_before(now, &certificate.notbefore) {
            self.not_yet_valid
                .add(1, || format!("{} from {}", subject(), certificate.notbefore));
        }
    }

    /// The lists of the page: their titles, rows, and what is in none.
    pub(super) fn lists(&self) -> [List; 5] {
        fn list<K: Eq + std::hash::Hash + Ord + Clone>(
            title: &'static str,
            tally: &Tally<K>,
            name: impl Fn(&K) -> String,
        ) -> List {
            let largest = tally.largest().into_iter();
            List {
                title,
                rows: largest.map(|(key, sum)| (name(&key), sum)).collect(),
                others: tally.others,
            }
        }
        let plain = |name: &&'static str| (*name).to_owned();
        let country = |country: &Country| country.as_str().to_owned();
        [
            list("APPLICATIONS", &self.apps, plain),
            list("SERVICES, BY NAME", &self.services, plain),
            list("NAMES OF SERVERS", &self.names, |name| shortened(name, NAME_MAX)),
            list("NAMES ASKED FOR", &self.questions, |name| {
                shortened(name, NAME_MAX)
            }),
            list("COUNTRIES, AS EITHER SIDE", &self.countries, country),
        ]
    }

    /// What somebody should look at, the worst first.
    pub(super) fn findings(&self) -> Vec<(String, String, Tone)> {
        let alerts = self
            .alerts
            .iter()
            .take(ROWS_MAX)
            .map(|((severity, name), oddity)| {
                let tone = if *severity == 1 { Tone::Bad } else { Tone::Warning };
                (shortened(name, NAME_MAX), oddity.text(), tone)
            });
        let mut found: Vec<(String, String, Tone)> = alerts.collect();
        let oddities = [
            ("passwords in clear text", &self.clear_credentials, Tone::Bad),
            ("failed log-ins", &self.failed_log_ins, Tone::Bad),
            ("expired certificates", &self.expired, Tone::Warning),
            ("certificates not yet valid", &self.not_yet_valid, Tone::Warning),
            ("TLS older than 1.2", &self.old_tls, Tone::Warning),
        ]
        .into_iter()
        .filter(|(_, oddity, _)| oddity.n > 0)
        .map(|(name, oddity, tone)| (name.to_owned(), oddity.text(), tone));
        found.extend(oddities);
        let mut anomalies: Vec<_> = self.anomalies.iter().collect();
        anomalies.sort_by_key(|(key, (severity, n))| (*severity, std::cmp::Reverse(*n), **key));
        for ((event, app), (severity, n)) in anomalies.into_iter().take(ROWS_MAX) {
            let tone = match severity {
                Severity::High => Tone::Bad,
                Severity::Medium => Tone::Warning,
                Severity::Low => Tone::Plain,
            };
            let words = event.replace('_', " ");
            let name = app.map_or_else(|| words.clone(), |app| format!("{app}: {words}"));
            found.push((name, crate::cli::text::grouped(*n), tone));
        }
        found
    }
}

/// Signatures and anomalies shown, each.
const ROWS_MAX: usize = 10;

const OLD_TLS: &[&str] = &["SSLv2", "SSLv3", "TLSv1", "TLS 1.0", "TLS 1.1", "DTLS 1.0"];
