//! Answers that are looked at as they come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::HeaderMap;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use policy::gateway::document::GuardOn;

use super::{Kind, Stop, forget_digests, piece};
use crate::body::{Body, BodyError};
use crate::guards::{Guards, TextFilter, Verdict};

/// The longest event or line of a stream.
const EVENT_MAX_BYTES: usize = 1 << 20;

/// An answer that is looked at as it comes.
pub(super) struct Filtered {
    body: Body,
    guards: Guards,
    holds: bool,
    filter: Filter,
    /// Bytes that are no whole line or character yet.
    held: Vec<u8>,
    /// They go out after what is held.
    trailers: Option<HeaderMap>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Looking,
    /// What cannot be looked at passes, since nothing would be changed in it.
    Raw,
    Over,
}

enum Filter {
    Text(TextFilter),
    Lines {
        are_events: bool,
        data: Option<String>,
        after_cr: bool,
    },
}

impl Filtered {
    pub(super) fn new(body: Body, kind: Kind, guards: &Guards, holds: bool) -> Filtered {
        let filter = if kind == Kind::Text {
            Filter::Text(TextFilter::new(guards))
        } else {
            Filter::Lines {
                are_events: kind == Kind::Events,
                data: None,
                after_cr: false,
            }
        };
        Filtered {
            body,
            guards: guards.clone(),
            holds,
            filter,
            held: Vec::new(),
            trailers: None,
            state: State::Looking,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
        if self.state == State::Raw {
            return Ok(bytes.to_vec());
        }
        let mut out = Vec::new();
        self.held.extend_from_slice(bytes);
        match self.look(&mut out) {
            Err(Stop::Unreadable(_)) if !self.holds => {
                self.state = State::Raw;
                self.let_go(&mut out);
                Ok(out)
            }
            Err(stop) => Err(stop),
            Ok(()) => Ok(out),
        }
    }

    /// What still waits goes on as it is.
    fn let_go(&mut self, out: &mut Vec<u8>) {
        match &mut self.filter {
            Filter::Text(filter) => {
                if let Verdict::Pass(text) = filter.finish() {
                    out.extend_from_slice(text.as_bytes());
                }
            }
            Filter::Lines { data, .. } => {
                if let Some(data) = data.take() {
                    write_data(&data, out);
                }
            }
        }
        out.append(&mut self.held);
    }

    fn look(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        match &mut self.filter {
            Filter::Text(filter) => {
                let valid = match std::str::from_utf8(&self.held) {
                    Ok(text) => text.len(),
                    Err(error) if error.error_len().is_none() => error.valid_up_to(),
                    Err(_) => return Err(Stop::Unreadable("its text is not UTF-8")),
                };
                let text = String::from_utf8_lossy(&self.held[..valid]).into_owned();
                self.held.drain(..valid);
                match filter.push(&text) {
                    Verdict::Pass(text) => out.extend_from_slice(text.as_bytes()),
                    Verdict::Block(rail) => return Err(Stop::Blocked(rail)),
                }
            }
            Filter::Lines {
                are_events,
                data,
                after_cr,
            } => {
                let mut at = 0;
                let looked = loop {
                    if std::mem::take(after_cr) && self.held.get(at) == Some(&b'\n') {
                        at += 1;
                    }
                    let rest = &self.held[at..];
                    let end = rest
                        .iter()
                        .position(|&byte| byte == b'\n' || (*are_events && byte == b'\r'));
                    let Some(end) = end else { break Ok(()) };
                    let looked = line(&self.guards, *are_events, data, &rest[..end], out);
                    if looked.is_err() {
                        break looked;
                    }
                    *after_cr = rest[end] == b'\r';
                    at += end + 1;
                };
                self.held.drain(..at);
                looked?;
                if self.held.len() + data.as_ref().map_or(0, String::len) > EVENT_MAX_BYTES {
                    return Err(Stop::Unreadable("an event of it is too long"));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>, Stop> {
        let mut out = Vec::new();
        if self.state == State::Raw {
            return Ok(out);
        }
        match &mut self.filter {
            Filter::Text(filter) => {
                if !self.held.is_empty() && self.holds {
                    return Err(Stop::Unreadable("its text is not UTF-8"));
                }
                match filter.finish() {
                    Verdict::Pass(text) => out.extend_from_slice(text.as_bytes()),
                    Verdict::Block(rail) => return Err(Stop::Blocked(rail)),
                }
                out.append(&mut self.held);
            }
            Filter::Lines { are_events, data, .. } => {
                let last = std::mem::take(&mut self.held);
                if !last.is_empty() {
                    line(&self.guards, *are_events, data, &last, &mut out)?;
                }
                if let Some(data) = data.take() {
                    let changed = piece(&self.guards, &data, GuardOn::Answer)?;
                    write_data(&changed.unwrap_or(data), &mut out);
                }
            }
        }
        Ok(out)
    }
}

/// One line, without its end. Data of an event waits for the empty line.
fn line(
    guards: &Guards,
    are_events: bool,
    data: &mut Option<String>,
    line: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let text = std::str::from_utf8(line).map_err(|_| Stop::Unreadable("its text is not UTF-8"))?;
    if are_events && text.is_empty() {
        if let Some(all) = data.take() {
            let changed = piece(guards, &all, GuardOn::Answer)?;
            write_data(&changed.unwrap_or(all), out);
        }
    } else if are_events && let Some(value) = text.strip_prefix("data:").or((text == "data").then_some("")) {
        let value = value.strip_prefix(' ').unwrap_or(value);
        match data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => *data = Some(value.to_owned()),
        }
        return Ok(());
    } else {
        let changed = piece(guards, text, GuardOn::Answer)?;
        out.extend_from_slice(changed.as_deref().unwrap_or(text).as_bytes());
    }
    out.push(b'\n');
    Ok(())
}

fn write_data(data: &str, out: &mut Vec<u8>) {
    for line in data.split(['\n', '\r']) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

impl HttpBody for Filtered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if this.state == State::Over {
                let trailers = this.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let (looked, is_last) = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (this.push(&data), false),
                    Err(other) => {
                        this.trailers = other.into_trailers().ok();
                        // It may have changed.
                        this.trailers.iter_mut().for_each(forget_digests);
                        continue;
                    }
                },
                Some(Err(error)) => {
                    this.state = State::Over;
                    this.trailers = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => (this.finish(), true),
            };
            if is_last {
                this.state = State::Over;
            }
            match looked {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(stop) => {
                    this.state = State::Over;
                    this.trailers = None;
                    let why = match stop {
                        Stop::Blocked(rail) => format!("the guardrail `{rail}` ended the answer"),
                        Stop::Unreadable(why) => format!("guardrails cannot look at the answer: {why}"),
                    };
                    return Poll::Ready(Some(Err(BodyError::Producer(why))));
                }
            }
        }
    }
}
