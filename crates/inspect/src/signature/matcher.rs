//! Rules held against payloads and records.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::{Anchored, Input};

use super::parse::RuleError;
use super::rule::{Action, Buffer, Content, Head, Pattern, PatternKind, Rule, Threshold, ThresholdKind, Way};
use crate::layer7::Transport;
use crate::layer7::record::Record;

/// Bytes of payload that are looked at in each direction of a flow.
pub const PAYLOAD_DEPTH: u32 = 64 * 1024;
/// Bytes of a segment kept to find what goes over into the next.
const TAIL_LEN: usize = 255;
/// Ways that one rule's contents are tried in one buffer; beyond, the rule does not match there.
const TRIES_MAX: u32 = 10_000;
/// Sources or destinations whose alerts are counted for thresholds. When they are many the oldest go.
const COUNTED_MAX: usize = 65_536;

/// Rules, compiled.
#[derive(Debug)]
pub struct Ruleset {
    rules: Vec<Rule>,
    indexes: [Index; Buffer::COUNT],
}

/// How the rules of one buffer are found.
#[derive(Debug, Default)]
struct Index {
    /// Finds the longest content of each rule, in any case of letters.
    automaton: Option<AhoCorasick>,
    /// By pattern of the automaton.
    owners: Vec<u32>,
    /// Rules without a content.
    always: Vec<u32>,
}

/// Buffers that one packet or record fills together.
fn group(buffer: Buffer) -> u8 {
    match buffer {
        Buffer::Payload => 0,
        Buffer::HttpUri
        | Buffer::HttpUserAgent
        | Buffer::HttpHost
        | Buffer::HttpMethod
        | Buffer::HttpReferer => 1,
        Buffer::TlsSni | Buffer::Ja4 => 2,
        Buffer::DnsQuery => 3,
        Buffer::SshSoftware => 4,
    }
}

impl Ruleset {
    /// Compiles rules.
    ///
    /// # Errors
    /// A rule whose buffers are never filled together, by its `sid`; or all contents together are too large.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        let mut contents: [Vec<Vec<u8>>; Buffer::COUNT] = Default::default();
        let mut indexes: [Index; Buffer::COUNT] = Default::default();
        for (at, rule) in rules.iter().enumerate() {
            let mut groups: Vec<u8> = rule
                .patterns
                .iter()
                .map(|pattern| group(pattern.buffer))
                .collect();
            groups.dedup();
            if groups.len() > 1 {
                return Err(RuleError {
                    line: 0,
                    what: format!(
                        "rule {}: its buffers are never filled together: expected those of one protocol, or the payload",
                        rule.sid
                    ),
                });
            }
            let longest = rule
                .patterns
                .iter()
                .filter_map(|pattern| match &pattern.kind {
                    PatternKind::Content(content) if !pattern.is_negated => Some((pattern.buffer, content)),
                    _ => None,
                })
                .max_by_key(|(_, content)| content.bytes.len());
            match longest {
                Some((buffer, content)) => {
                    contents[buffer as usize].push(content.bytes.clone());
                    indexes[buffer as usize].owners.push(at as u32);
                }
                None => {
                    let wanted = rule.patterns.iter().find(|pattern| !pattern.is_negated);
                    let buffer = wanted.map_or(Buffer::Payload, |pattern| pattern.buffer);
                    indexes[buffer as usize].always.push(at as u32);
                }
            }
        }
        for (index, contents) in indexes.iter_mut().zip(&contents) {
            if contents.is_empty() {
                continue;
            }
            let automaton = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .match_kind(MatchKind::Standard)
                .build(contents)
                .map_err(|error| RuleError {
                    line: 0,
                    what: format!("all contents together: {error}"),
                })?;
            index.automaton = Some(automaton);
        }
        Ok(Self { rules, indexes })
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    fn has(&self, buffer: Buffer) -> bool {
        let index = &self.indexes[buffer as usize];
        index.automaton.is_some() || !index.always.is_empty()
    }

    fn has_group(&self, wanted: u8) -> bool {
        Buffer::NAMES
            .iter()
            .any(|&(_, buffer)| group(buffer) == wanted && self.has(buffer))
    }
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub sid: u32,
    pub rev: u32,
    pub msg: String,
    pub category: &'static str,
    pub severity: u8,
    pub metadata: Vec<(String, String)>,
}

/// What a packet or record belongs to. `src` sent it.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub ts_ns: u64,
    pub transport: Transport,
    pub app: Option<&'static str>,
    pub src: (IpAddr, u16),
    pub dst: (IpAddr, u16),
    /// Whether the client sent it.
    pub is_to_server: bool,
    /// Whether both sides have sent something.
    pub is_established: bool,
}

/// What is remembered of one flow.
#[derive(Debug, Default)]
pub struct Scan {
    /// Rules that have matched, by position.
    matched: Vec<u32>,
    is_passed: bool,
    scanned: [u32; 2],
    tails: [Vec<u8>; 2],
    next: [u32; 2],
}

impl Scan {
    /// Whether no more payload is to be looked at: enough was, or it is encrypted.
    #[must_use]
    pub fn is_done(&self, app: Option<&str>) -> bool {
        self.is_passed
            || self.scanned.iter().all(|scanned| *scanned >= PAYLOAD_DEPTH)
            || matches!(
                app,
                Some("tls" | "quic" | "ssh" | "dtls" | "wireguard" | "openvpn" | "ike")
            )
    }
}

/// Holds a rule set against traffic.
#[derive(Debug)]
pub struct Scanner {
    ruleset: Arc<Ruleset>,
    counts: HashMap<(u32, IpAddr), Counted>,
    /// Alerts that thresholds held back.
    pub held_back: u64,
    /// Counts of thresholds that were forgotten for want of room.
    pub forgotten: u64,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    since_ns: u64,
    count: u32,
}

impl Scanner {
    /// Over these rules.
    #[must_use]
    pub fn new(ruleset: Arc<Ruleset>) -> Self {
        Self {
            ruleset,
            counts: HashMap::new(),
            held_back: 0,
            forgotten: 0,
        }
    }

    /// Whether some rule looks at payloads.
    #[must_use]
    pub fn wants_payloads(&self) -> bool {
        self.ruleset.has(Buffer::Payload)
    }

    /// Whether some rule looks at records.
    #[must_use]
    pub fn wants_records(&self) -> bool {
        (1..=4).any(|group| self.ruleset.has_group(group))
    }

    /// Looks at one packet's payload; of TCP with its sequence number.
    pub fn payload(
        &mut self,
        scan: &mut Scan,
        facts: &Facts,
        seq: u32,
        payload: &[u8],
        alerts: &mut Vec<Alert>,
    ) {
        let side = usize::from(!facts.is_to_server);
        if payload.is_empty() || scan.scanned[side] >= PAYLOAD_DEPTH {
            return;
        }
        scan.scanned[side] = scan.scanned[side].saturating_add(payload.len() as u32);
        let ruleset = Arc::clone(&self.ruleset);
        let continues =
            facts.transport == Transport::Tcp && seq == scan.next[side] && !scan.tails[side].is_empty();
        let joined;
        let bytes = if continues {
            joined = [&scan.tails[side], payload].concat();
            &joined[..]
        } else {
            payload
        };
        let mut buffers = Buffers::default();
        buffers.0[Buffer::Payload as usize] = Some(bytes);
        self.look(&ruleset, scan, facts, &buffers, payload.len() as u32, alerts);
        if facts.transport == Transport::Tcp {
            let kept = bytes.len().saturating_sub(TAIL_LEN);
            let tail = bytes[kept..].to_vec();
            scan.tails[side] = tail;
            scan.next[side] = seq.wrapping_add(payload.len() as u32);
        }
    }

    /// Looks at one record.
    pub fn record(&mut self, scan: &mut Scan, facts: &Facts, record: &Record, alerts: &mut Vec<Alert>) {
        let ruleset = Arc::clone(&self.ruleset);
        let text = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let mut owned: [Option<Vec<u8>>; Buffer::COUNT] = Default::default();
        let mut put = |buffer: Buffer, text: Option<Vec<u8>>| owned[buffer as usize] = text;
        match record {
            Record::Http(http) => {
                put(Buffer::HttpUri, text(&http.url));
                put(Buffer::HttpUserAgent, text(&http.http_user_agent));
                put(Buffer::HttpHost, text(&http.hostname));
                put(Buffer::HttpMethod, text(&http.http_method));
                put(Buffer::HttpReferer, text(&http.http_refer));
            }
            Record::Tls(tls) => {
                put(Buffer::TlsSni, text(&tls.sni));
                put(Buffer::Ja4, text(&tls.ja4));
            }
            Record::Quic(quic) => {
                put(Buffer::TlsSni, text(&quic.sni));
                put(Buffer::Ja4, text(&quic.ja4));
            }
            Record::Dns(dns) => {
                for question in &dns.queries {
                    let mut buffers = Buffers::default();
                    buffers.0[Buffer::DnsQuery as usize] = Some(question.rrname.as_bytes());
                    self.look(&ruleset, scan, facts, &buffers, 0, alerts);
                }
                return;
            }
            Record::Ssh(ssh) => {
                let software = |side: &Option<crate::layer7::record::SshSide>| {
                    side.as_ref()
                        .map(|side| side.software_version.as_bytes().to_vec())
                };
                put(Buffer::SshSoftware, software(&ssh.client));
            }
            _ => return,
        }
        let mut buffers = Buffers::default();
        for (to, from) in buffers.0.iter_mut().zip(&owned) {
            *to = from.as_deref();
        }
        self.look(&ruleset, scan, facts, &buffers, 0, alerts);
    }

    fn look(
        &mut self,
        ruleset: &Ruleset,
        scan: &mut Scan,
        facts: &Facts,
        buffers: &Buffers<'_>,
        payload_len: u32,
        alerts: &mut Vec<Alert>,
    ) {
        if scan.is_passed {
            return;
        }
        let mut found: Vec<u32> = Vec::new();
        for (index, bytes) in ruleset.indexes.iter().zip(&buffers.0) {
            let Some(bytes) = bytes else { continue };
            found.extend(&index.always);
            if let Some(automaton) = &index.automaton {
                let owners = automaton.find_overlapping_iter(*bytes);
                found.extend(owners.map(|one| index.owners[one.pattern().as_usize()]));
            }
        }
        if found.is_empty() {
            return;
        }
        found.sort_unstable();
        found.dedup();
        for at in found {
            let rule = &ruleset.rules[at as usize];
            if scan.matched.contains(&at)
                || !applies(rule, facts, payload_len)
                || !buffers.match_all(&rule.patterns)
            {
                continue;
            }
            scan.matched.push(at);
            if rule.action == Action::Pass {
                scan.is_passed = true;
                return;
            }
            if rule
                .threshold
                .is_some_and(|threshold| !self.is_due(rule.sid, threshold, facts))
            {
                self.held_back += 1;
                // It may be due when it matches again.
                scan.matched.pop();
                continue;
            }
            alerts.push(Alert {
                sid: rule.sid,
                rev: rule.rev,
                msg: rule.msg.clone(),
                category: rule.category(),
                severity: rule.severity,
                metadata: rule.metadata.clone(),
            });
        }
    }

    /// Counts a match; whether an alert is to be raised for it.
    fn is_due(&mut self, sid: u32, threshold: Threshold, facts: &Facts) -> bool {
        let tracked = if threshold.is_by_source {
            facts.src.0
        } else {
            facts.dst.0
        };
        if self.counts.len() >= COUNTED_MAX && !self.counts.contains_key(&(sid, tracked)) {
            let before = self.counts.len();
            let mut times: Vec<u64> = self.counts.values().map(|counted| counted.since_ns).collect();
            let (_, &mut median_ns, _) = times.select_nth_unstable(before / 2);
            self.counts.retain(|_, counted| counted.since_ns > median_ns);
            self.forgotten += (before - self.counts.len()) as u64;
        }
        let window_ns = u64::from(threshold.seconds) * 1_000_000_000;
        let counted = self.counts.entry((sid, tracked)).or_insert(Counted {
            since_ns: facts.ts_ns,
            count: 0,
        });
        if facts.ts_ns.saturating_sub(counted.since_ns) >= window_ns {
            *counted = Counted {
                since_ns: facts.ts_ns,
                count: 0,
            };
        }
        counted.count = counted.count.saturating_add(1);
        match threshold.kind {
            ThresholdKind::Limit => counted.count <= threshold.count,
            ThresholdKind::Threshold => counted.count.is_multiple_of(threshold.count),
            ThresholdKind::Both => counted.count == threshold.count,
        }
    }
}

/// Whether a rule is about this flow and this way.
fn applies(rule: &Rule, facts: &Facts, payload_len: u32) -> bool {
    let is_head = match rule.head {
        Head::Ip => true,
        Head::Tcp => facts.transport == Transport::Tcp,
        Head::Udp => facts.transport == Transport::Udp,
        Head::Icmp => matches!(facts.transport, Transport::Other(1 | 58)),
        Head::App(app) => facts.app == Some(app) || (app == "http" && facts.app == Some("http2")),
    };
    let is_way = match rule.way {
        Way::Any => true,
        Way::ToServer => facts.is_to_server,
        Way::ToClient => !facts.is_to_server,
    };
    let is_size = rule
        .dsize
        .is_none_or(|(from, to)| (from..=to).contains(&payload_len));
    let ends = |src: (IpAddr, u16), dst: (IpAddr, u16)| {
        rule.src.holds(src.0)
            && rule.src_ports.holds(src.1)
            && rule.dst.holds(dst.0)
            && rule.dst_ports.holds(dst.1)
    };
    let is_between = ends(facts.src, facts.dst) || (rule.is_both_ways && ends(facts.dst, facts.src));
    is_head && is_way && is_size && is_between && (!rule.is_established || facts.is_established)
}

/// What one packet or record offers to look in.
#[derive(Default)]
struct Buffers<'a>([Option<&'a [u8]>; Buffer::COUNT]);

impl Buffers<'_> {
    /// Whether all patterns hold. Those of one buffer are tried in their order, each from every place it
    /// occurs at, since the ones behind it may be relative to that.
    fn match_all(&self, patterns: &[Pattern]) -> bool {
        Buffer::NAMES.iter().all(|&(_, buffer)| {
            let of_buffer: Vec<&Pattern> = patterns
                .iter()
                .filter(|pattern| pattern.buffer == buffer)
                .collect();
            if of_buffer.is_empty() {
                return true;
            }
            let Some(bytes) = self.0[buffer as usize] else {
                return of_buffer.iter().all(|pattern| pattern.is_negated);
            };
            let mut search = Search {
                bytes,
                lower: bytes.to_ascii_lowercase(),
                tries_left: TRIES_MAX,
            };
            search.matches(&of_buffer, 0)
        })
    }
}

struct Search<'a> {
    bytes: &'a [u8],
    lower: Vec<u8>,
    tries_left: u32,
}

impl Search<'_> {
    fn matches(&mut self, patterns: &[&Pattern], last_end: usize) -> bool {
        let Some((pattern, rest)) = patterns.split_first() else {
            return true;
        };
        let mut from = 0;
        while self.tries_left > 0 {
            self.tries_left -= 1;
            let found = match &pattern.kind {
                PatternKind::Content(content) => self.find(content, last_end, from),
                PatternKind::Regex { regex, is_relative } => {
                    let begin = if *is_relative { last_end.max(from) } else { from };
                    let input = Input::new(self.bytes)
                        .range(begin.min(self.bytes.len())..)
                        .anchored(Anchored::No);
                    regex.search(&input).map(|found| (found.start(), found.end()))
                }
            };
            match (found, pattern.is_negated) {
                (Some(_), true) | (None, false) => return false,
                (None, true) => return self.matches(rest, last_end),
                (Some((at, end)), false) => {
                    if self.matches(rest, end) {
                        return true;
                    }
                    // Only what is relative could still turn out otherwise.
                    let is_asked = rest.first().is_some_and(|next| match &next.kind {
                        PatternKind::Content(content) => content.is_relative(),
                        PatternKind::Regex { is_relative, .. } => *is_relative,
                    });
                    if !is_asked {
                        return false;
                    }
                    from = at + 1;
                }
            }
        }
        false
    }

    /// The first place at or after `from` where the content is and may be.
    fn find(&self, content: &Content, last_end: usize, from: usize) -> Option<(usize, usize)> {
        let bytes = if content.is_caseless {
            &self.lower[..]
        } else {
            self.bytes
        };
        let len = content.bytes.len();
        let (mut begin, mut end) = (0, bytes.len());
        if content.starts_with {
            end = end.min(len);
        }
        if content.ends_with {
            begin = begin.max(bytes.len().checked_sub(len)?);
        }
        if let Some(offset) = content.offset {
            begin = begin.max(offset);
        }
        if let Some(depth) = content.depth {
            end = end.min(content.offset.unwrap_or(0).saturating_add(depth));
        }
        if content.is_relative() {
            let distance = content.distance.unwrap_or(0);
            let at = (last_end as i64).saturating_add(distance).max(0) as usize;
            begin = begin.max(at);
            if let Some(within) = content.within {
                end = end.min(at.saturating_add(within));
            }
        }
        begin = begin.max(from);
        let at = begin + memchr::memmem::find(bytes.get(begin..end)?, &content.bytes)?;
        Some((at, at + len))
    }
}
