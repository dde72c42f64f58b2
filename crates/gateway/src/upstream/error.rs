//! Why a call to an upstream failed, and whether it may be tried again.

use std::error::Error as StdError;

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallPhase {
    /// Waiting for a connection: as many as allowed are busy.
    Queue,
    /// Finding the addresses of the host.
    Resolve,
    /// Checking them: none may be called.
    Egress,
    /// Connecting.
    Connect,
    /// The handshake of TLS or HTTP/2.
    Tls,
    /// Sending the request.
    Write,
    /// Sent, no answer yet.
    FirstByte,
    /// Within the answer.
    Body,
}

/// Whether the same request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No byte of it was sent.
    Safe,
    /// It may have been acted on.
    IfIdempotent,
    /// The answer has begun, or trying again cannot help.
    Never,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It took too long.
    Timeout,
    /// The other side said no: refused, reset, closed.
    Refused,
    /// What came is not the protocol.
    Protocol,
    /// Our own rules forbid it.
    Forbidden,
    /// The request's own body failed: the client left, or sent too much.
    RequestBody,
}

/// A call to an upstream that failed.
#[derive(Debug, thiserror::Error)]
#[error("upstream: {} in phase {phase:?}: {message}", match fault {
    Fault::Timeout => "timeout",
    Fault::Refused => "refused",
    Fault::Protocol => "protocol error",
    Fault::Forbidden => "forbidden",
    Fault::RequestBody => "request body failed",
})]
pub struct UpstreamError {
    /// How far it came.
    pub phase: CallPhase,
    /// What went wrong.
    pub fault: Fault,
    /// Whether it may be tried again.
    pub retry: Retry,
    /// For the log; may name addresses, so it is never sent to a client.
    pub message: String,
    /// What lies below.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl UpstreamError {
    pub(super) fn new(phase: CallPhase, fault: Fault, message: impl Into<String>) -> UpstreamError {
        let retry = match phase {
            _ if matches!(fault, Fault::Forbidden | Fault::RequestBody) => Retry::Never,
            CallPhase::Queue
            | CallPhase::Resolve
            | CallPhase::Egress
            | CallPhase::Connect
            | CallPhase::Tls => Retry::Safe,
            CallPhase::Write | CallPhase::FirstByte => Retry::IfIdempotent,
            CallPhase::Body => Retry::Never,
        };
        UpstreamError {
            phase,
            fault,
            retry,
            message: message.into(),
            source: None,
        }
    }

    /// What was wrong with the request's own body, if that was it.
    #[must_use]
    pub fn body_error(&self) -> Option<&crate::body::BodyError> {
        let mut source = self
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static));
        while let Some(this) = source {
            if let Some(error) = this.downcast_ref() {
                return Some(error);
            }
            source = this.source();
        }
        None
    }

    pub(super) fn with(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> UpstreamError {
        self.source = Some(source.into());
        self
    }

    pub(super) fn timeout(phase: CallPhase, after: std::time::Duration) -> UpstreamError {
        UpstreamError::new(
            phase,
            Fault::Timeout,
            format!("nothing within {} ms", after.as_millis()),
        )
    }

    /// Of hyper's error; `sent` says that the request may have left.
    pub(super) fn of_hyper(phase: CallPhase, error: hyper::Error, sent: bool) -> UpstreamError {
        let from_body = {
            let mut source = error.source();
            std::iter::from_fn(move || {
                let this = source?;
                source = this.source();
                Some(this)
            })
            .any(<dyn StdError>::is::<crate::body::BodyError>)
        };
        let fault = if from_body {
            Fault::RequestBody
        } else if error.is_parse() {
            Fault::Protocol
        } else {
            Fault::Refused
        };
        let mut of = UpstreamError::new(phase, fault, error.to_string());
        if !sent && fault != Fault::RequestBody {
            of.retry = Retry::Safe;
        } else if fault == Fault::Protocol {
            of.retry = Retry::Never;
        }
        of.with(error)
    }
}
