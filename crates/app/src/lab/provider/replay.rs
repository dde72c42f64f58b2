//! `--replay DIR`: answers with recorded bytes.
//!
//! A cassette is a JSON file of `interactions`, each with `request` (method, uri, body_json or body) and
//! `response` (status, headers, body_json, body or body_b64). A request gets the interaction with the same
//! method, path and body; of several, one after the other. With `x-sim-cassette: NAME`, or a model named
//! `sim-cassette-NAME`, it gets the next of that cassette with the same operation, whatever the body.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use base64::Engine;
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::Value;

use super::body::{Chunking, SimBody};
use super::journal::Entry;
use super::route::{Operation, route};
use super::serve::said;
use super::wire::Piece;

const FILES_MAX: usize = 10_000;
/// Folders in folders.
const DEPTH_MAX: u32 = 4;
const MODEL_PREFIX: &str = "sim-cassette-";
/// Headers that belong to a connection, or that are made anew.
const NOT_REPLAYED: [&str; 5] = [
    "transfer-encoding",
    "content-length",
    "connection",
    "content-encoding",
    "date",
];

#[derive(Debug)]
struct Recorded {
    cassette: String,
    method: Method,
    path: String,
    operation: Option<Operation>,
    asked: Asked,
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Bytes,
}

#[derive(Debug, PartialEq)]
enum Asked {
    Json(Value),
    Text(String),
}

impl Asked {
    fn of(body: &[u8]) -> Asked {
        serde_json::from_slice(body).map_or_else(
            |_| Asked::Text(String::from_utf8_lossy(body).into_owned()),
            Asked::Json,
        )
    }
}

#[derive(Debug)]
pub(crate) struct Replay {
    all: Vec<Recorded>,
    /// How often each first match was given, to go on with the next; by request and by cassette apart.
    turns: Mutex<HashMap<(bool, usize), usize>>,
}

impl Replay {
    pub(crate) fn load(folder: &Path) -> Result<Replay> {
        let mut files = Vec::new();
        find(folder, 0, &mut files)?;
        files.sort();
        let mut all = Vec::new();
        for file in &files {
            let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let cassette: Value =
                serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", file.display()))?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let interactions = cassette["interactions"].as_array();
            // A response without its request can be given to nobody.
            let whole = interactions
                .into_iter()
                .flatten()
                .filter(|one| one["request"].is_object());
            for (idx, one) in whole.enumerate() {
                let recorded = recorded(&name, one)
                    .with_context(|| format!("{}: interactions[{idx}]", file.display()))?;
                all.push(recorded);
            }
        }
        if all.is_empty() {
            bail!(
                "no recorded interactions under {}: expected JSON files with `interactions`",
                folder.display()
            );
        }
        Ok(Replay {
            all,
            turns: Mutex::default(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
        chunking: Chunking,
        mut entry: Entry,
    ) -> Response<SimBody> {
        let asked = Asked::of(body);
        let found = match cassette(path, headers, &asked) {
            Some(name) => {
                let operation = route(method, path, headers).map(|route| route.operation);
                self.next(true, |one| {
                    one.cassette == name
                        && one.method == *method
                        && if operation.is_some() {
                            one.operation == operation
                        } else {
                            one.path == path
                        }
                })
            }
            None => self.next(false, |one| {
                one.method == *method && one.path == path && one.asked == asked
            }),
        };
        let Some(found) = found else {
            entry.call.status = 404;
            entry.done();
            let same_path = self.all.iter().filter(|one| one.path == path).count();
            return said(
                StatusCode::NOT_FOUND,
                &format!(
                    "nothing recorded for {method} {path} with this body ({same_path} interactions have this path): send a recorded request, or name a cassette by x-sim-cassette"
                ),
            );
        };
        entry.call.status = found.status.as_u16();
        let body = SimBody::stream(events(found), chunking, Some(entry));
        let mut response = Response::new(if is_stream(found) {
            body
        } else {
            body.declaring(found.body.len() as u64)
        });
        *response.status_mut() = found.status;
        for (name, value) in &found.headers {
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, value.parse()) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }

    /// Of all that match, the one whose turn it is.
    fn next(&self, is_cassette: bool, matches: impl Fn(&Recorded) -> bool) -> Option<&Recorded> {
        let found: Vec<usize> = (0..self.all.len())
            .filter(|idx| matches(&self.all[*idx]))
            .collect();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry((is_cassette, *found.first()?)).or_insert(0);
        let chosen = found[*turn % found.len()];
        *turn += 1;
        self.all.get(chosen)
    }
}

fn cassette(path: &str, headers: &HeaderMap, asked: &Asked) -> Option<String> {
    if let Some(name) = headers.get("x-sim-cassette") {
        return name.to_str().ok().map(str::to_owned);
    }
    let model = match asked {
        Asked::Json(body) => body["model"].as_str(),
        Asked::Text(_) => None,
    };
    let in_path = || {
        let decoded = super::route::percent_decoded(path);
        let (_, after) = decoded.split_once(MODEL_PREFIX)?;
        let end = after.rfind([':', '/']).unwrap_or(after.len());
        Some(after[..end].to_owned())
    };
    let of_model = model.and_then(|model| {
        model
            .rsplit('/')
            .next()?
            .strip_prefix(MODEL_PREFIX)
            .map(str::to_owned)
    });
    of_model.or_else(in_path)
}

fn find(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot list {}", folder.display()))?
            .path();
        if path.is_dir() {
            if depth < DEPTH_MAX {
                find(&path, depth + 1, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "json") {
            if files.len() >= FILES_MAX {
                bail!("more than {FILES_MAX} files under {}", folder.display());
            }
            files.push(path);
        }
    }
    Ok(())
}

fn recorded(cassette: &str, one: &Value) -> Result<Recorded> {
    let (request, response) = (&one["request"], &one["response"]);
    let text = |value: &'_ Value, field: &str| {
        value[field]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("expected text in `{field}`"))
    };
    let method = Method::from_bytes(text(request, "method")?.to_ascii_uppercase().as_bytes())?;
    let uri = text(request, "uri")?;
    let after_scheme = uri.split_once("://").map_or(uri.as_str(), |(_, after)| after);
    let path = after_scheme.find('/').map_or("/", |at| &after_scheme[at..]);
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let asked = match (request.get("body_json"), request["body"].as_str()) {
        (Some(body), _) => Asked::Json(body.clone()),
        (None, Some(body)) => Asked::of(body.as_bytes()),
        (None, None) => Asked::Text(String::new()),
    };
    let body = match (
        response.get("body_json"),
        &response["body"],
        &response["body_b64"],
    ) {
        (Some(body), _, _) => body.to_string().into_bytes(),
        (None, Value::String(body), _) => body.clone().into_bytes(),
        (None, _, Value::String(body)) => base64::engine::general_purpose::STANDARD.decode(body)?,
        _ => Vec::new(),
    };
    let status = response["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok())
        .context("expected `status`")?;
    let headers = response["headers"].as_object().into_iter().flatten();
    let headers = headers.filter(|(name, _)| !NOT_REPLAYED.contains(&name.to_ascii_lowercase().as_str()));
    Ok(Recorded {
        cassette: cassette.to_owned(),
        operation: route(&method, &path, &HeaderMap::new()).map(|route| route.operation),
        method,
        path,
        asked,
        status: StatusCode::from_u16(status)?,
        headers: headers
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        body: body.into(),
    })
}

fn is_stream(recorded: &Recorded) -> bool {
    let kind = recorded
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    kind.is_some_and(|(_, kind)| kind.starts_with("text/event-stream") || kind.contains("eventstream"))
}

/// The events of a stream one by one, other bodies whole.
fn events(recorded: &Recorded) -> Vec<Piece> {
    if !is_stream(recorded) {
        return vec![Piece::new(recorded.body.clone())];
    }
    let mut pieces = Vec::new();
    let mut rest = recorded.body.clone();
    while !rest.is_empty() {
        let end = rest
            .windows(2)
            .position(|window| window == b"\n\n")
            .map_or(rest.len(), |at| at + 2);
        pieces.push(Piece::new(rest.split_to(end)));
    }
    pieces
}
