//! Calls as JSON, one object a line, into a file that turns over at a size or to standard output.

use super::record::CallRecord;
use crate::civil;
use crate::error::StoreError;
use crate::json::{self, usd_text};
use serde::{Serialize, Serializer};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where JSON lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineTarget {
    /// A file. At `bytes_max` it is renamed to `NAME.1`, that to `NAME.2`, up to `files_kept` old ones.
    File {
        /// The file.
        path: PathBuf,
        /// When it turns over.
        bytes_max: u64,
        /// How many old ones stay.
        files_kept: u32,
    },
    /// Standard output. If nobody reads it, records are lost, and counted.
    Stdout,
}

/// A request id as text: 32 hexadecimal digits.
pub fn id_text(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: String,
    outcome: &'static str,
    status: u16,
    organisation: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    team: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    consumer: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    key_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    service: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    route: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ingress: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    wire: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model_asked: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    provider: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    provider_key_id: &'a str,
    cost_usd: String,
    #[serde(skip_serializing_if = "is_false")]
    estimated: bool,
    #[serde(skip_serializing_if = "is_false")]
    price_assumed: bool,
    #[serde(serialize_with = "json::usage")]
    usage: llm::usage::Usage,
    latency_us: Times,
    attempts: u8,
    #[serde(skip_serializing_if = "is_zero")]
    retries: u8,
    #[serde(skip_serializing_if = "is_false")]
    cache_hit: bool,
    #[serde(skip_serializing_if = "is_false")]
    streamed: bool,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "str::is_empty")]
    country: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    dropped: &'a str,
    #[serde(skip_serializing_if = "is_none")]
    pii_in: u32,
    #[serde(skip_serializing_if = "is_none")]
    pii_out: u32,
    guard: &'static str,
}

#[derive(Serialize)]
struct Times {
    queue: u32,
    connect: u32,
    first_byte: u32,
    stream: u32,
    total: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(value: &u8) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_none(value: &u32) -> bool {
    *value == 0
}

/// As in the JSON lines: names that are empty and flags that are off are left out, money is text.
impl Serialize for CallRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let CallRecord { usage, latency, .. } = self;
        let line = Line {
            time: civil::time_text(self.at_ms),
            request_id: id_text(self.request_id),
            outcome: self.outcome.as_str(),
            status: self.status,
            organisation: &self.organisation,
            team: &self.team,
            consumer: &self.consumer,
            key_id: &self.key_id,
            user: &self.user,
            service: &self.service,
            route: &self.route,
            ingress: self.ingress.as_str(),
            wire: self.wire.as_str(),
            model_asked: &self.model_asked,
            model: &self.model,
            provider: &self.provider,
            provider_key_id: &self.provider_key_id,
            cost_usd: usd_text(self.cost_pusd.into()),
            estimated: self.estimated,
            price_assumed: self.price_assumed,
            usage: *usage,
            latency_us: Times {
                queue: latency.queue_us,
                connect: latency.connect_us,
                first_byte: latency.first_byte_us,
                stream: latency.stream_us,
                total: latency.total_us,
            },
            attempts: self.attempts,
            retries: self.retries,
            cache_hit: self.cache_hit,
            streamed: self.streamed,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            client_ip: self.client_ip,
            country: std::str::from_utf8(&self.country)
                .unwrap_or("")
                .trim_end_matches('\0'),
            dropped: &self.dropped,
            pii_in: self.pii_in,
            pii_out: self.pii_out,
            guard: self.guard.as_str(),
        };
        line.serialize(serializer)
    }
}

/// Writes lines.
#[derive(Debug)]
pub(super) struct LineWriter {
    target: LineTarget,
    file: Option<(File, u64)>,
    buffer: Vec<u8>,
}

impl LineWriter {
    pub(super) fn new(target: LineTarget) -> Self {
        Self {
            target,
            file: None,
            buffer: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, calls: &[CallRecord]) -> Result<(), StoreError> {
        self.buffer.clear();
        for call in calls {
            // Of names and numbers alone, which always have a JSON form.
            if serde_json::to_writer(&mut self.buffer, call).is_ok() {
                self.buffer.push(b'\n');
            }
        }
        let LineTarget::File {
            path,
            bytes_max,
            files_kept,
        } = &self.target
        else {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(&self.buffer).and_then(|()| out.flush());
            return written.map_err(|source| StoreError::File {
                action: "write to",
                path: "standard output".into(),
                source,
            });
        };
        let failed = |action| {
            move |source| StoreError::File {
                action,
                path: path.clone(),
                source,
            }
        };
        // Someone else may have moved it away to turn it over.
        let (mut file, mut length) = match self.file.take() {
            Some(open) if path.exists() => open,
            _ => open(path)?,
        };
        if length > 0 && length.saturating_add(self.buffer.len() as u64) > *bytes_max {
            drop(file);
            turn_over(path, *files_kept).map_err(failed("turn over"))?;
            (file, length) = open(path)?;
        }
        file.write_all(&self.buffer).map_err(failed("write to"))?;
        self.file = Some((file, length + self.buffer.len() as u64));
        Ok(())
    }
}

fn open(path: &Path) -> Result<(File, u64), StoreError> {
    crate::db::make_folder_of(path)?;
    let failed = |source| StoreError::File {
        action: "open",
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

fn turn_over(path: &Path, files_kept: u32) -> std::io::Result<()> {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    if files_kept == 0 {
        return std::fs::remove_file(path);
    }
    for n in (1..files_kept).rev() {
        match std::fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_all_that_is_known_and_no_more() {
        let text = serde_json::to_string(&CallRecord {
            at_ms: 1_795_214_605_123,
            request_id: [0xab; 16],
            organisation: "default".into(),
            model: "gpt-\"4\"\n".into(),
            cost_pusd: 5,
            country: *b"DE",
            ..CallRecord::default()
        });
        assert_eq!(
            text.unwrap(),
            concat!(
                r#"{"time":"2026-11-20T22:43:25.123Z","request_id":"abababababababababababababababab","#,
                r#""outcome":"ok","status":0,"organisation":"default","model":"gpt-\"4\"\n","#,
                r#""cost_usd":"0.000000000005","usage":{"input":0,"cache_read":0,"cache_write_5m":0,"#,
                r#""cache_write_1h":0,"input_audio":0,"input_image":0,"output":0,"reasoning":0,"#,
                r#""output_audio":0,"output_image":0},"latency_us":{"queue":0,"connect":0,"first_byte":0,"#,
                r#""stream":0,"total":0},"attempts":0,"bytes_in":0,"bytes_out":0,"country":"DE","guard":"passed"}"#
            )
        );
    }

    #[test]
    fn a_file_turns_over_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/calls.jsonl");
        let call = CallRecord::default();
        let length = serde_json::to_vec(&call).unwrap().len() as u64 + 1;
        let target = LineTarget::File {
            path: path.clone(),
            bytes_max: 2 * length,
            files_kept: 2,
        };
        let mut lines = LineWriter::new(target);
        let lengths = || -> Vec<u64> {
            let names = ["", ".1", ".2", ".3"].map(|ending| format!("{}{ending}", path.display()));
            names
                .iter()
                .filter_map(|name| Some(std::fs::metadata(name).ok()?.len() / length))
                .collect()
        };
        let mut seen = Vec::new();
        for _ in 0..7 {
            lines.write(std::slice::from_ref(&call)).unwrap();
            seen.push(lengths());
        }
        let expected: [&[u64]; 7] = [&[1], &[2], &[1, 2], &[2, 2], &[1, 2, 2], &[2, 2, 2], &[1, 2, 2]];
        assert_eq!(seen, expected);
        // Moved away by someone else.
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        lines.write(std::slice::from_ref(&call)).unwrap();
        assert_eq!(lengths(), [1, 2, 2]);
    }
}
