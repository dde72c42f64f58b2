//! Rules out of text.

use std::collections::HashMap;
use std::net::IpAddr;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::rule::{
    Action, Addresses, Buffer, Content, Head, Pattern, PatternKind, Ports, Rule, Size, Threshold,
    ThresholdKind, Way, severity_of,
};

/// Longest content, and memory that a pattern may take compiled, in bytes.
const CONTENT_MAX: usize = 256;
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Most rules of one text.
const RULES_MAX: usize = 100_000;

/// Why a rule was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct RuleError {
    pub line: usize,
    pub what: String,
}

/// Values of `$NAMES` in addresses and ports. A name that is not here is an error.
pub type Variables = HashMap<String, String>;

/// The variables every rule set uses, each `any`.
#[must_use]
pub fn default_variables() -> Variables {
    let addresses = [
        "HOME_NET",
        "EXTERNAL_NET",
        "HTTP_SERVERS",
        "SMTP_SERVERS",
        "SQL_SERVERS",
        "DNS_SERVERS",
        "TELNET_SERVERS",
        "DC_SERVERS",
        "DNP3_SERVER",
        "DNP3_CLIENT",
        "MODBUS_CLIENT",
        "MODBUS_SERVER",
        "ENIP_CLIENT",
        "ENIP_SERVER",
        "AIM_SERVERS",
    ];
    let ports = [
        ("HTTP_PORTS", "any"),
        ("SHELLCODE_PORTS", "!80"),
        ("ORACLE_PORTS", "1521"),
        ("SSH_PORTS", "22"),
        ("FTP_PORTS", "21"),
        ("FILE_DATA_PORTS", "any"),
    ];
    let any = addresses.map(|name| (name, "any"));
    let all = any.into_iter().chain(ports);
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Every rule of a text, and every fault. A line that ends in a backslash goes on in the next.
#[must_use]
pub fn parse(text: &str, variables: &Variables) -> (Vec<Rule>, Vec<RuleError>) {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    let mut sids: HashMap<u32, usize> = HashMap::new();
    let mut joined = String::new();
    let mut begun = 0;
    for (at, line) in text.lines().enumerate() {
        if joined.is_empty() {
            begun = at + 1;
        }
        let line = line.trim();
        if let Some(part) = line.strip_suffix('\\') {
            joined.push_str(part);
            continue;
        }
        joined.push_str(line);
        let whole = std::mem::take(&mut joined);
        if whole.is_empty() || whole.starts_with('#') {
            continue;
        }
        let fault = |what: String| RuleError { line: begun, what };
        if rules.len() >= RULES_MAX {
            errors.push(fault(format!("more than {RULES_MAX} rules")));
            break;
        }
        match rule(&whole, variables) {
            Ok(rule) => match sids.insert(rule.sid, begun) {
                Some(first) => {
                    errors.push(fault(format!("sid {} is that of line {first} already", rule.sid)));
                }
                None => rules.push(rule),
            },
            Err(what) => errors.push(fault(what)),
        }
    }
    (rules, errors)
}

fn rule(text: &str, variables: &Variables) -> Result<Rule, String> {
    let (head, options) = text
        .split_once('(')
        .ok_or("expected `action protocol source ports -> destination ports (options)`")?;
    let options = options
        .trim_end()
        .strip_suffix(')')
        .ok_or("expected `)` at the end of the options")?;
    let words = words_of(head);
    let [action, protocol, src, src_ports, arrow, dst, dst_ports] = &words[..] else {
        return Err(format!(
            "expected seven words before `(`: action protocol source ports -> destination ports; found {}",
            words.len()
        ));
    };
    let mut rule = Rule {
        action: match &**action {
            "alert" => Action::Alert,
            "pass" => Action::Pass,
            other => {
                return Err(format!(
                    "action `{other}`: expected `alert` or `pass`; what is to be dropped is policy's"
                ));
            }
        },
        head: head_of(protocol)?,
        src: addresses(src, variables)?,
        src_ports: ports(src_ports, variables)?,
        dst: addresses(dst, variables)?,
        dst_ports: ports(dst_ports, variables)?,
        is_both_ways: match &**arrow {
            "->" => false,
            "<>" => true,
            other => return Err(format!("`{other}`: expected `->` or `<>`")),
        },
        msg: String::new(),
        sid: 0,
        rev: 1,
        classtype: None,
        severity: 3,
        way: Way::Any,
        is_established: false,
        dsize: None,
        patterns: Vec::new(),
        threshold: None,
        metadata: Vec::new(),
    };
    let mut priority = None;
    let mut buffer = Buffer::Payload;
    for (name, value) in split_options(options)? {
        option(&mut rule, &mut buffer, &mut priority, &name, value.as_deref())
            .map_err(|what| format!("option `{name}`: {what}"))?;
    }
    if rule.sid == 0 {
        return Err("expected `sid:NUMBER;`".to_owned());
    }
    if rule.msg.is_empty() {
        return Err("expected `msg:\"…\";`".to_owned());
    }
    if rule.patterns.iter().all(|pattern| pattern.is_negated) && rule.dsize.is_none() {
        return Err("expected a `content`, `pcre` or `dsize` that must match".to_owned());
    }
    let of_class = rule.classtype.as_deref().and_then(severity_of);
    rule.severity = priority.or(of_class).unwrap_or(3).clamp(1, 3);
    Ok(rule)
}

/// Words apart at blanks, but not within brackets.
fn words_of(head: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut depth) = (String::new(), 0u32);
    for c in head.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            c if c.is_whitespace() && depth > 0 => continue,
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn head_of(word: &str) -> Result<Head, String> {
    Ok(match word {
        "ip" => Head::Ip,
        "tcp" | "tcp-pkt" | "tcp-stream" => Head::Tcp,
        "udp" => Head::Udp,
        "icmp" => Head::Icmp,
        "http" | "http1" => Head::App("http"),
        other => match crate::layer7::proto::by_name(other) {
            Some(protocol) => Head::App(protocol.name()),
            None => return Err(format!("protocol `{other}` is not known")),
        },
    })
}

/// The parts of `[a,!b,[c,d]]`, flat, each with whether it is negated.
fn parts(
    text: &str,
    variables: &Variables,
    is_negated: bool,
    depth: u32,
) -> Result<Vec<(bool, String)>, String> {
    if depth > 8 {
        return Err(format!("`{text}`: lists are nested too deeply"));
    }
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('!') {
        return parts(rest, variables, !is_negated, depth + 1);
    }
    if let Some(name) = text.strip_prefix('$') {
        let value = variables
            .get(name)
            .ok_or_else(|| format!("variable `${name}` has no value: set it in the configuration"))?;
        return parts(value, variables, is_negated, depth + 1);
    }
    let Some(list) = text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) else {
        return Ok(vec![(is_negated, text.to_owned())]);
    };
    let (mut all, mut level, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '[' => level += 1,
            ']' => level -= 1,
            ',' if level == 0 => {
                all.extend(parts(&list[begin..at], variables, is_negated, depth + 1)?);
                begin = at + 1;
            }
            _ => {}
        }
    }
    Ok(all)
}

fn addresses(text: &str, variables: &Variables) -> Result<Addresses, String> {
    let mut set = Addresses::default();
    for (is_negated, part) in parts(text, variables, false, 0)? {
        if part == "any" {
            if is_negated {
                return Err(format!("`{text}`: `!any` is nothing"));
            }
            continue;
        }
        let (address, len) = part
            .split_once('/')
            .map_or((&*part, None), |(a, len)| (a, Some(len)));
        let wrong = || format!("`{part}`: expected an address, a network as 10.0.0.0/8, or `any`");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let len = len.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if len > most {
            return Err(wrong());
        }
        let list = if is_negated {
            &mut set.none_of
        } else {
            &mut set.any_of
        };
        list.push((address, len));
    }
    Ok(set)
}

fn ports(text: &str, variables: &Variables) -> Result<Ports, String> {
    let mut set = Ports::default();
    for (is_negated, part) in parts(text, variables, false, 0)? {
        if part == "any" {
            continue;
        }
        let wrong = || format!("`{part}`: expected a port, a range as 1024:65535, or `any`");
        let number = |text: &str, absent: u16| {
            if text.is_empty() {
                Ok(absent)
            } else {
                text.parse().map_err(|_| wrong())
            }
        };
        let range = match part.split_once(':') {
            Some((from, to)) => (number(from, 0)?, number(to, u16::MAX)?),
            None => {
                let port = part.parse().map_err(|_| wrong())?;
                (port, port)
            }
        };
        let list = if is_negated {
            &mut set.none_of
        } else {
            &mut set.any_of
        };
        list.push(range);
    }
    Ok(set)
}

/// `name:value;` by `name:value;`, quotes and escapes respected.
fn split_options(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let mut options = Vec::new();
    let (mut part, mut is_quoted, mut is_escaped) = (String::new(), false, false);
    for c in text.chars() {
        if is_escaped {
            part.push('\\');
            part.push(c);
            is_escaped = false;
            continue;
        }
        match c {
            '\\' => is_escaped = true,
            '"' => {
                is_quoted = !is_quoted;
                part.push(c);
            }
            ';' if !is_quoted => {
                let whole = std::mem::take(&mut part);
                let (name, value) = match whole.split_once(':') {
                    Some((name, value)) => (name, Some(value.trim().to_owned())),
                    None => (&*whole, None),
                };
                options.push((name.trim().to_owned(), value));
            }
            c => part.push(c),
        }
    }
    if !part.trim().is_empty() {
        return Err(format!("`{}`: expected `;` at its end", part.trim()));
    }
    Ok(options)
}

/// The text within quotes, and whether `!` stands before them.
fn quoted(value: &str) -> Result<(bool, &str), String> {
    let (is_negated, rest) = match value.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, value),
    };
    let text = rest.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Ok((is_negated, text.ok_or("expected text in quotes")?))
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    let is_wrong = |_| format!("`{value}`: expected a whole number within its range");
    value.trim().parse().map_err(is_wrong)
}

fn option(
    rule: &mut Rule,
    buffer: &mut Buffer,
    priority: &mut Option<u8>,
    name: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let needed = || value.ok_or_else(|| "expected a value".to_owned());
    if let Some((_, named)) = Buffer::NAMES.iter().find(|(known, _)| *known == name) {
        *buffer = *named;
        return Ok(());
    }
    match name {
        "msg" => unescape(quoted(needed()?)?.1).clone_into(&mut rule.msg),
        "sid" => rule.sid = number(needed()?)?,
        "rev" => rule.rev = number(needed()?)?,
        "gid" | "target" | "fast_pattern" => {}
        "classtype" => rule.classtype = Some(needed()?.to_owned()),
        "priority" => *priority = Some(number(needed()?)?),
        "reference" => rule.metadata.push(("reference".into(), needed()?.to_owned())),
        "metadata" => {
            let words = needed()?
                .split(',')
                .map(|word| word.trim().split_once(' ').unwrap_or((word.trim(), "")));
            rule.metadata
                .extend(words.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        "flow" => {
            for word in needed()?.split(',') {
                match word.trim() {
                    "established" => rule.is_established = true,
                    "to_server" | "from_client" => rule.way = Way::ToServer,
                    "to_client" | "from_server" => rule.way = Way::ToClient,
                    "stateless" | "only_stream" | "no_stream" => {}
                    other => return Err(format!("`{other}` is not known here")),
                }
            }
        }
        "dsize" => rule.dsize = Some(size(needed()?)?),
        "content" => {
            let (is_negated, text) = quoted(needed()?)?;
            let bytes = content_bytes(text)?;
            if bytes.is_empty() || bytes.len() > CONTENT_MAX {
                return Err(format!("expected 1 to {CONTENT_MAX} bytes"));
            }
            let mut content = Content {
                bytes,
                ..Content::default()
            };
            if buffer.is_caseless() {
                make_caseless(&mut content);
            }
            rule.patterns.push(Pattern {
                buffer: *buffer,
                is_negated,
                kind: PatternKind::Content(content),
            });
        }
        "pcre" => {
            let (is_negated, text) = quoted(needed()?)?;
            rule.patterns.push(regex(text, is_negated, *buffer)?);
        }
        "nocase" => make_caseless(last_content(rule)?),
        "offset" => last_content(rule)?.offset = Some(number(needed()?)?),
        "depth" => last_content(rule)?.depth = Some(number(needed()?)?),
        "distance" => last_content(rule)?.distance = Some(number(needed()?)?),
        "within" => last_content(rule)?.within = Some(number(needed()?)?),
        "startswith" => last_content(rule)?.starts_with = true,
        "endswith" => last_content(rule)?.ends_with = true,
        "bsize" => return Err("is not known here: use `startswith` and `endswith`".to_owned()),
        "threshold" => rule.threshold = Some(threshold(needed()?)?),
        _ => return Err("is not known here".to_owned()),
    }
    Ok(())
}

fn make_caseless(content: &mut Content) {
    content.is_caseless = true;
    content.bytes.make_ascii_lowercase();
}

fn last_content(rule: &mut Rule) -> Result<&mut Content, String> {
    match rule.patterns.last_mut().map(|pattern| &mut pattern.kind) {
        Some(PatternKind::Content(content)) => Ok(content),
        _ => Err("expected a `content` before it".to_owned()),
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' {
            chars.next().unwrap_or('\\')
        } else {
            c
        });
    }
    out
}

/// `GET |0d 0a|` as bytes.
fn content_bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let c = chars.next().ok_or("a backslash at the end of a content")?;
                bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
            '|' => {
                let digits: String = chars
                    .by_ref()
                    .take_while(|c| *c != '|')
                    .filter(|c| !c.is_whitespace())
                    .collect();
                if !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(format!("`|{digits}|`: expected pairs of hexadecimal digits"));
                }
                let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_default();
                bytes.extend((0..digits.len()).step_by(2).map(pair));
            }
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Ok(bytes)
}

/// `/expression/flags`: flags i, s, m, x of the expression, R for relative; of the old letters for buffers U, V,
/// W and P are taken to mean the buffer before.
fn regex(text: &str, is_negated: bool, buffer: Buffer) -> Result<Pattern, String> {
    let (expression, flags) = text
        .strip_prefix('/')
        .and_then(|rest| rest.rsplit_once('/'))
        .ok_or("expected `/expression/flags`")?;
    let mut config = syntax::Config::new().unicode(false).utf8(false);
    let mut is_relative = false;
    for flag in flags.chars() {
        config = match flag {
            'i' => config.case_insensitive(true),
            's' => config.dot_matches_new_line(true),
            'm' => config.multi_line(true),
            'x' => config.ignore_whitespace(true),
            'R' => {
                is_relative = true;
                config
            }
            'U' | 'V' | 'W' | 'P' => config,
            other => return Err(format!("flag `{other}` is not known here")),
        };
    }
    if buffer.is_caseless() {
        config = config.case_insensitive(true);
    }
    // Suricata wants a slash escaped; to the engine that is an escape of nothing special.
    let expression = expression.replace("\\/", "/");
    let regex = Regex::builder()
        .syntax(config)
        .configure(
            Regex::config()
                .nfa_size_limit(Some(REGEX_BYTES_MAX))
                .utf8_empty(false),
        )
        .build(&expression)
        .map_err(|error| {
            let mut chain = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                chain = inner.to_string();
                source = inner.source();
            }
            format!("not an expression we can take (no look-around, no back references): {chain}")
        })?;
    Ok(Pattern {
        buffer,
        is_negated,
        kind: PatternKind::Regex {
            regex: Box::new(regex),
            is_relative,
        },
    })
}

/// `100`, `>100`, `<100`, `100<>200`.
fn size(text: &str) -> Result<Size, String> {
    if let Some((from, to)) = text.split_once("<>") {
        return Ok((
            number::<u32>(from)?.saturating_add(1),
            number::<u32>(to)?.saturating_sub(1),
        ));
    }
    if let Some(from) = text.strip_prefix('>') {
        return Ok((number::<u32>(from)?.saturating_add(1), u32::MAX));
    }
    if let Some(to) = text.strip_prefix('<') {
        return Ok((0, number::<u32>(to)?.saturating_sub(1)));
    }
    let exact = number(text)?;
    Ok((exact, exact))
}

fn threshold(text: &str) -> Result<Threshold, String> {
    let (mut kind, mut is_by_source, mut count, mut seconds) = (None, None, None, None);
    for part in text.split(',') {
        let (name, value) = part
            .trim()
            .split_once(' ')
            .ok_or_else(|| format!("`{part}`: expected a name and a value"))?;
        match (name, value.trim()) {
            ("type", "limit") => kind = Some(ThresholdKind::Limit),
            ("type", "threshold") => kind = Some(ThresholdKind::Threshold),
            ("type", "both") => kind = Some(ThresholdKind::Both),
            ("track", "by_src") => is_by_source = Some(true),
            ("track", "by_dst") => is_by_source = Some(false),
            ("count", value) => count = Some(number(value)?),
            ("seconds", value) => seconds = Some(number(value)?),
            _ => return Err(format!("`{part}` is not known here")),
        }
    }
    match (kind, is_by_source, count, seconds) {
        (Some(kind), Some(is_by_source), Some(count @ 1..), Some(seconds @ 1..)) => Ok(Threshold {
            kind,
            is_by_source,
            count,
            seconds,
        }),
        _ => Err("expected type, track, count and seconds, the last two at least 1".to_owned()),
    }
}
