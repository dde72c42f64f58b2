//! The worker's end.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use wire::event::SamplingOrder;
use wire::rows::SocketKey;
use wire::{FlowKey, FlowRow};

use super::protocol::{DatabaseFiles, KEYS_MAX, Request, Response};
use crate::live::SocketOwner;

/// Asks the broker. Calls block and take turns.
#[derive(Debug)]
pub struct Client(Mutex<UnixStream>);

impl Client {
    /// Over one end of the socket pair.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self(Mutex::new(stream))
    }

    fn ask(&self, request: &Request) -> io::Result<Response> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        request.write(&mut *stream)?;
        match Response::read(&mut *stream)? {
            Response::Failed(sentence) => Err(io::Error::other(sentence)),
            response => Ok(response),
        }
    }

    /// Takes rows out of the flow table. Gives each key with its final row, if it had one.
    pub fn take_flows(&self, keys: &[FlowKey]) -> io::Result<Vec<(FlowKey, Option<FlowRow>)>> {
        let mut taken = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            match self.ask(&Request::TakeFlows(keys.to_vec()))? {
                Response::Flows(rows) if rows.len() == keys.len() => {
                    taken.extend(keys.iter().copied().zip(rows));
                }
                _ => return Err(unexpected()),
            }
        }
        Ok(taken)
    }

    /// Removes socket rows.
    pub fn remove_sockets(&self, keys: &[SocketKey]) -> io::Result<()> {
        for keys in keys.chunks(KEYS_MAX) {
            self.ask(&Request::RemoveSockets(keys.to_vec()))?;
        }
        Ok(())
    }

    /// Says which payloads of flows to sample from now on. Flows without a row are passed over.
    pub fn set_sampling(&self, orders: &[SamplingOrder]) -> io::Result<()> {
        for orders in orders.chunks(KEYS_MAX) {
            self.ask(&Request::Sampling(orders.to_vec()))?;
        }
        Ok(())
    }

    /// The country databases, if they are others than those with this mark.
    pub fn databases(&self, known: u64) -> io::Result<Option<DatabaseFiles>> {
        match self.ask(&Request::Databases(known))? {
            Response::Files(files) => Ok(Some(files)),
            Response::Done => Ok(None),
            _ => Err(unexpected()),
        }
    }

    /// Which processes hold which sockets.
    pub fn socket_owners(&self) -> io::Result<Vec<SocketOwner>> {
        match self.ask(&Request::SocketOwners)? {
            Response::Json(document) => serde_json::from_slice(&document).map_err(io::Error::other),
            _ => Err(unexpected()),
        }
    }

    /// Every BPF program of the host, as JSON.
    pub fn programs(&self) -> io::Result<serde_json::Value> {
        match self.ask(&Request::Programs)? {
            Response::Json(document) => serde_json::from_slice(&document).map_err(io::Error::other),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> io::Error {
    io::Error::other("the broker answered something else than was asked")
}
