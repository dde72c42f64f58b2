//! The privileged end: answers one request at a time.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use wire::event::{SAMPLING_ORDERS_AT, SAMPLING_ORDERS_MAX, SamplingOrder};

use super::protocol::{DatabaseFiles, Request, Response};
use super::sockets;
use crate::sys::Plain;
use crate::{programs, sys};

/// What the broker needs to answer.
#[derive(Debug)]
pub struct Broker {
    pub flows: OwnedFd,
    pub sockets: OwnedFd,
    /// The program that takes orders on which payloads to sample.
    pub sampling: OwnedFd,
    /// Country databases. Only their bytes are read here: what they say is for the worker to find out.
    pub databases: Databases,
}

/// Country databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Databases {
    pub paths: Vec<PathBuf>,
    /// The user named them, rather than they were found.
    pub are_named: bool,
}

/// Why serving ended.
#[derive(Debug)]
pub enum ServeEnd {
    /// The worker closed its end: it stopped or died.
    WorkerGone,
    Failed(io::Error),
}

impl Broker {
    /// Answers one request. Gives why there will be no more, if so.
    ///
    /// Blocks until the whole request is there: call it when the stream is readable, and give the
    /// stream a time limit, so that a worker that stops in the middle of one cannot hold the broker.
    pub fn serve_one(&self, stream: &mut UnixStream) -> Option<ServeEnd> {
        let request = match Request::read(stream) {
            Ok(Some(request)) => request,
            Ok(None) => return Some(ServeEnd::WorkerGone),
            Err(error) => return Some(ServeEnd::Failed(error)),
        };
        self.answer(request).write(stream).err().map(ServeEnd::Failed)
    }

    fn answer(&self, request: Request) -> Response {
        match request {
            Request::TakeFlows(keys) => {
                let rows = keys
                    .iter()
                    .map(|key| sys::lookup_and_delete(self.flows.as_fd(), key));
                rows.collect::<io::Result<_>>()
                    .map_or_else(|error| failed("take flow rows", &error), Response::Flows)
            }
            Request::RemoveSockets(keys) => {
                for key in &keys {
                    if let Err(error) = sys::delete(self.sockets.as_fd(), key) {
                        return failed("remove socket rows", &error);
                    }
                }
                Response::Done
            }
            Request::Sampling(orders) => {
                for orders in orders.chunks(SAMPLING_ORDERS_MAX) {
                    let run = sys::test_run(self.sampling.as_fd(), &sampling_packet(orders), 1);
                    if let Err(error) = run {
                        return failed("set what is sampled", &error);
                    }
                }
                Response::Done
            }
            Request::Databases(known) => databases(&self.databases, known),
            Request::SocketOwners => json(&sockets::owners()),
            Request::Programs => match programs::list() {
                Ok(listing) => json(&listing),
                Err(error) => failed("list programs", &error),
            },
        }
    }
}

/// Files that changed since the worker was given those with the mark `known`.
fn databases(databases: &Databases, known: u64) -> Response {
    let paths = &databases.paths;
    let mut hasher = DefaultHasher::new();
    for path in paths {
        match path.metadata() {
            Ok(metadata) => {
                let changed = (
                    metadata.len(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                    metadata.ino(),
                );
                (path, changed).hash(&mut hasher);
            }
            Err(error) => return failed(&format!("read {}", path.display()), &error),
        }
    }
    // 0 is the mark of who has nothing.
    let mark = hasher.finish().max(1);
    if paths.is_empty() || mark == known {
        return Response::Done;
    }
    let mut files = Vec::new();
    for path in paths {
        match std::fs::read(path) {
            Ok(bytes) => files.push(bytes),
            Err(error) => return failed(&format!("read {}", path.display()), &error),
        }
    }
    Response::Files(DatabaseFiles {
        mark,
        are_named: databases.are_named,
        files,
    })
}

/// The bytes that the program which takes sampling orders is run on: at most
/// [`SAMPLING_ORDERS_MAX`] of them.
#[must_use]
pub fn sampling_packet(orders: &[SamplingOrder]) -> Vec<u8> {
    let mut packet = vec![0; SAMPLING_ORDERS_AT];
    for order in orders {
        packet.extend_from_slice(order.as_bytes());
    }
    packet
}

fn failed(what: &str, error: &dyn std::error::Error) -> Response {
    Response::Failed(format!("cannot {what}: {}", crate::error::chain(error)))
}

fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(document) => Response::Json(document),
        Err(error) => failed("write JSON", &error),
    }
}
