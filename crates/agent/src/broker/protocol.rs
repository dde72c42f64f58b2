//! The frames between worker and broker: `u32` length, `u8` kind, payload. Rows travel as the
//! bytes they are in the maps; what is asked rarely travels as JSON.

use std::io::{self, Read, Write};

use wire::event::SamplingOrder;
use wire::rows::SocketKey;
use wire::{FlowKey, FlowRow};

use crate::sys::Plain;

/// Keys in one request.
pub const KEYS_MAX: usize = 1024;

/// Longest frame either side accepts, in bytes.
const FRAME_LEN_MAX: u32 = 64 << 20;

/// What the worker may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take these rows out of the flow table and give their final counts.
    TakeFlows(Vec<FlowKey>),
    /// Remove the rows of closed sockets.
    RemoveSockets(Vec<SocketKey>),
    /// Which processes hold which sockets, from /proc.
    SocketOwners,
    /// Every BPF program of the host.
    Programs,
    /// Sample these flows' payloads so.
    Sampling(Vec<SamplingOrder>),
    /// The country databases, if they are others than those with this mark.
    Databases(u64),
}

/// Country databases by their content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseFiles {
    /// Tells these files from others; never 0.
    pub mark: u64,
    /// The user named them, rather than they were found.
    pub are_named: bool,
    pub files: Vec<Vec<u8>>,
}

/// What the broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// One for each key asked for; `None` where there was no row.
    Flows(Vec<Option<FlowRow>>),
    Done,
    /// A JSON document.
    Json(Vec<u8>),
    /// Country databases that changed.
    Files(DatabaseFiles),
    /// One sentence.
    Failed(String),
}

mod tag {
    pub(super) const TAKE_FLOWS: u8 = 1;
    pub(super) const REMOVE_SOCKETS: u8 = 2;
    pub(super) const SOCKET_OWNERS: u8 = 3;
    pub(super) const PROGRAMS: u8 = 4;
    pub(super) const SAMPLING: u8 = 5;
    pub(super) const DATABASES: u8 = 6;
    pub(super) const FLOWS: u8 = 65;
    pub(super) const DONE: u8 = 66;
    pub(super) const JSON: u8 = 67;
    pub(super) const FAILED: u8 = 68;
    pub(super) const FILES: u8 = 69;
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Request {
    /// Sends this request.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::TakeFlows(keys) => write_frame(to, tag::TAKE_FLOWS, &bytes_of(keys)),
            Self::RemoveSockets(keys) => write_frame(to, tag::REMOVE_SOCKETS, &bytes_of(keys)),
            Self::SocketOwners => write_frame(to, tag::SOCKET_OWNERS, &[]),
            Self::Programs => write_frame(to, tag::PROGRAMS, &[]),
            Self::Sampling(orders) => write_frame(to, tag::SAMPLING, &bytes_of(orders)),
            Self::Databases(mark) => write_frame(to, tag::DATABASES, mark.as_bytes()),
        }
    }

    /// Reads a request; `None` at the end of the stream.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((kind, payload)) = read_frame(from)? else {
            return Ok(None);
        };
        let request = match kind {
            tag::TAKE_FLOWS => Self::TakeFlows(values_of(&payload)?),
            tag::REMOVE_SOCKETS => Self::RemoveSockets(values_of(&payload)?),
            tag::SOCKET_OWNERS => Self::SocketOwners,
            tag::PROGRAMS => Self::Programs,
            tag::SAMPLING => Self::Sampling(values_of(&payload)?),
            tag::DATABASES => {
                Self::Databases(u64::from_bytes(&payload).ok_or_else(|| bad("a mark cut short"))?)
            }
            _ => return Err(bad("a request of no known kind")),
        };
        Ok(Some(request))
    }
}

impl Response {
    /// Sends this response.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Flows(rows) => {
                let mut payload = Vec::with_capacity(rows.len() * (1 + size_of::<FlowRow>()));
                for row in rows {
                    payload.push(u8::from(row.is_some()));
                    payload.extend_from_slice(row.unwrap_or_default().as_bytes());
                }
                write_frame(to, tag::FLOWS, &payload)
            }
            Self::Done => write_frame(to, tag::DONE, &[]),
            Self::Json(document) => write_frame(to, tag::JSON, document),
            Self::Files(of) => {
                let mut payload = of.mark.as_bytes().to_vec();
                payload.push(u8::from(of.are_named));
                for file in &of.files {
                    payload.extend_from_slice((file.len() as u64).as_bytes());
                    payload.extend_from_slice(file);
                }
                write_frame(to, tag::FILES, &payload)
            }
            Self::Failed(sentence) => write_frame(to, tag::FAILED, sentence.as_bytes()),
        }
    }

    /// Reads a response; the end of the stream is an error here.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let (kind, payload) = read_frame(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match kind {
            tag::FLOWS => {
                let chunks = payload.chunks_exact(1 + size_of::<FlowRow>());
                if !chunks.remainder().is_empty() {
                    return Err(bad("rows of a wrong length"));
                }
                let row = |chunk: &[u8]| {
                    if chunk[0] == 1 {
                        FlowRow::from_bytes(&chunk[1..])
                    } else {
                        None
                    }
                };
                Ok(Self::Flows(chunks.map(row).collect()))
            }
            tag::FILES => files_of(&payload).ok_or_else(|| bad("files cut short")),
            tag::DONE => Ok(Self::Done),
            tag::JSON => Ok(Self::Json(payload)),
            tag::FAILED => Ok(Self::Failed(String::from_utf8_lossy(&payload).into_owned())),
            _ => Err(bad("a response of no known kind")),
        }
    }
}

fn bytes_of<T: Plain>(values: &[T]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.as_bytes().iter().copied())
        .collect()
}

fn values_of<T: Plain>(bytes: &[u8]) -> io::Result<Vec<T>> {
    let chunks = bytes.chunks_exact(size_of::<T>());
    if !chunks.remainder().is_empty() || chunks.len() > KEYS_MAX {
        return Err(bad("keys of a wrong length, or too many"));
    }
    Ok(chunks.filter_map(T::from_bytes).collect())
}

fn write_frame(to: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 5);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

fn read_frame(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if len > FRAME_LEN_MAX {
        return Err(bad("a frame longer than allowed"));
    }
    let mut payload = vec![0; len as usize];
    from.read_exact(&mut payload)?;
    Ok(Some((head[4], payload)))
}

/// What [`Response::Files`] was written as.
fn files_of(payload: &[u8]) -> Option<Response> {
    let mark = u64::from_bytes(payload)?;
    let are_named = *payload.get(8)? == 1;
    let mut rest = payload.get(9..)?;
    let mut files = Vec::new();
    while !rest.is_empty() {
        let len = usize::try_from(u64::from_bytes(rest)?).ok()?;
        rest = rest.get(8..)?;
        files.push(rest.get(..len)?.to_vec());
        rest = &rest[len..];
    }
    Some(Response::Files(DatabaseFiles {
        mark,
        are_named,
        files,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_come_back_as_they_were() {
        let key = FlowKey {
            a_port: 443,
            ifindex: 7,
            ..FlowKey::default()
        };
        for request in [
            Request::TakeFlows(vec![key, FlowKey::default()]),
            Request::RemoveSockets(vec![SocketKey {
                local_port: 22,
                ..SocketKey::default()
            }]),
            Request::SocketOwners,
            Request::Programs,
        ] {
            let mut bytes = Vec::new();
            request.write(&mut bytes).expect("a vector takes it");
            assert_eq!(
                Request::read(&mut bytes.as_slice()).expect("well-formed"),
                Some(request)
            );
        }
        let row = FlowRow {
            first_ns: 5,
            ..FlowRow::default()
        };
        for response in [
            Response::Flows(vec![Some(row), None]),
            Response::Done,
            Response::Json(b"{}".to_vec()),
            Response::Failed("no".into()),
        ] {
            let mut bytes = Vec::new();
            response.write(&mut bytes).expect("a vector takes it");
            assert_eq!(
                Response::read(&mut bytes.as_slice()).expect("well-formed"),
                response
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |bytes: &[u8]| assert!(Request::read(&mut &bytes[..]).is_err(), "{bytes:?}");
        check(&[0, 0, 0, 0, 99]);
        check(&[3, 0, 0, 0, 1, 1, 2, 3]);
        check(&[255, 255, 255, 255, 1]);
        check(&[9, 0, 0, 0, 1, 1]);
        assert!(matches!(Request::read(&mut &[][..]), Ok(None)));
    }
}
