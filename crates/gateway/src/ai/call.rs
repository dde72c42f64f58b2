//! One call from its arrival to its end. However it ends, by an answer, an error, or a client that has
//! left and dropped everything, it is settled and recorded once.

use super::prompt_count::PromptCount;
use crate::limits::{Taken, Want};
use crate::live::Shared;
use hyper::http::{HeaderValue, StatusCode};
use llm::estimate::TextCount;
use llm::money;
use llm::usage::Usage;
use policy::gateway::limit::Limit;
use policy::gateway::snapshot::{Consumer, Target};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;
use store::calls::{AuditRecord, CallRecord};
use store::ledger::{Hold, PostingInfo};
use store::outcome::Outcome;

/// The longest body that is kept for audit.
const AUDIT_MAX_BYTES: usize = 256 << 10;

/// A call under way. Dropping it ends it: what is dropped without [`Call::end`] was left by its client.
pub struct Call {
    shared: Arc<Shared>,
    /// What is known so far.
    pub record: CallRecord,
    /// When it arrived.
    pub arrived: Instant,
    /// What it may cost at most, held from its budget.
    pub hold: Option<Hold>,
    /// Places that are given back at its end.
    pub places: Vec<Taken>,
    /// Limits in tokens that are told at its end what it used, with what was taken beforehand.
    pub token_limits: Vec<TokenLimit>,
    /// Who answers.
    pub target: Option<Target>,
    /// The same for the client, as `provider/model`.
    pub shown: Option<HeaderValue>,
    /// What the provider reported.
    pub usage: Option<Usage>,
    /// Nothing more will be reported: the answer is whole.
    pub usage_is_final: bool,
    /// What it likely used, where the provider reports nothing: prompt, and answer so far.
    pub estimate: Estimate,
    /// Bodies for audit.
    pub audit: Option<Audit>,
    is_over: bool,
}

/// Tokens as far as they can be guessed.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    /// The prompt.
    pub prompt: PromptCount,
    /// The answer's text so far.
    pub answer: TextCount,
    /// The provider was asked, so that the prompt has been used.
    pub was_sent: bool,
}

/// A limit in tokens that counts what a call used.
#[derive(Debug)]
pub struct TokenLimit {
    /// The limit.
    pub limit: Limit,
    /// Whose count.
    pub subject: u64,
    /// What was taken when the call began.
    pub taken: u64,
}

impl TokenLimit {
    /// Of what was taken.
    pub fn of(want: &Want<'_>) -> Self {
        // All but the words, which no count needs.
        let Limit {
            id,
            kind,
            amount,
            window_ns,
            burst,
            per,
            text: _,
        } = *want.limit;
        Self {
            limit: Limit {
                id,
                kind,
                amount,
                window_ns,
                burst,
                per,
                text: String::new(),
            },
            subject: want.subject,
            taken: want.amount,
        }
    }
}

/// Bodies for audit, scrubbed.
#[derive(Debug, Default)]
pub struct Audit {
    /// Of the request.
    pub request: Vec<u8>,
    /// Of the answer, as far as it went.
    pub answer: Vec<u8>,
}

impl Audit {
    /// Of a request, as far as there is room.
    pub fn of_request(mut request: Vec<u8>) -> Self {
        request.truncate(AUDIT_MAX_BYTES);
        Self {
            request,
            ..Self::default()
        }
    }

    /// Adds to the answer, as long as there is room.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = AUDIT_MAX_BYTES.saturating_sub(self.answer.len());
        self.answer.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// A call that has just arrived.
    pub fn new(shared: Arc<Shared>, record: CallRecord, arrived: Instant) -> Self {
        Self {
            shared,
            record,
            arrived,
            hold: None,
            places: Vec::new(),
            token_limits: Vec::new(),
            target: None,
            shown: None,
            usage: None,
            usage_is_final: false,
            estimate: Estimate::default(),
            audit: None,
            is_over: false,
        }
    }

    /// What all threads share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Names who asks.
    pub fn asked_by(&mut self, consumer: &Consumer, key_id: &Arc<str>) {
        self.record.organisation = (&consumer.organisation).into();
        self.record.team = (&consumer.team).into();
        self.record.consumer = (&consumer.name).into();
        self.record.key_id = key_id.into();
    }

    /// Keeps places until its end.
    pub fn takes(&mut self, taken: Vec<Taken>) {
        if self.places.is_empty() {
            self.places = taken;
        } else {
            self.places.extend(taken);
        }
    }

    /// Where it came from.
    pub fn source(&self) -> IpAddr {
        self.record.client_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Microseconds since the arrival.
    pub fn elapsed_us(&self) -> u32 {
        u32::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    /// The call has ended: settles, records and counts it. Only the first end counts.
    pub fn end(&mut self, outcome: Outcome, status: StatusCode) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.record.outcome = outcome;
        self.record.status = status.as_u16();
        self.record.latency.total_us = self.elapsed_us();
        self.settle();
        self.shared.count(outcome);
        self.places.clear();
        if let Some(audit) = self.audit.take() {
            self.shared.calls.audit(AuditRecord {
                at_ms: self.record.at_ms,
                request_id: self.record.request_id,
                organisation: self.record.organisation.clone(),
                team: self.record.team.clone(),
                consumer: self.record.consumer.clone(),
                user: self.record.user.clone(),
                request: audit.request,
                response: audit.answer,
            });
        }
        self.shared.calls.record(std::mem::take(&mut self.record));
    }

    /// What the call used: as the provider says, else an estimate of what it must have used.
    fn settle(&mut self) {
        let (usage, is_estimate) = match self.usage {
            Some(usage) if !self.usage_is_partial() => (usage, false),
            reported if self.estimate.was_sent => {
                let reported = reported.unwrap_or_default();
                let answer = self.estimate.answer.tokens();
                let usage = Usage {
                    input: if reported.total_input() == 0 {
                        self.estimate.prompt.tokens()
                    } else {
                        reported.input
                    },
                    output: answer.saturating_sub(reported.reasoning).max(reported.output),
                    ..reported
                };
                (usage, true)
            }
            _ => (Usage::default(), false),
        };
        self.record.usage = usage;
        self.record.estimated = is_estimate;
        let total = usage.total();
        for TokenLimit {
            limit,
            subject,
            taken,
        } in self.token_limits.drain(..)
        {
            self.shared.limits.settle_tokens(&limit, subject, taken, total);
        }
        let Some(target) = &self.target else { return };
        let cost = target.prices.as_ref().map_or(money::Money::ZERO, |prices| {
            if total == 0 && self.usage.is_none() {
                money::Money::ZERO
            } else {
                money::cost(prices, &usage).amount
            }
        });
        self.record.cost_pusd = cost.pico_usd();
        self.record.price_assumed = target.price_is_assumed;
        if let Some(hold) = self.hold.take() {
            let info = PostingInfo {
                model: Arc::clone(&target.model),
                provider: Arc::clone(&target.provider.name),
                consumer: self.record.consumer.to_arc(),
                estimated: is_estimate,
                tick_ms: self.record.at_ms,
            };
            hold.settle(cost.pico_usd(), &info);
        }
    }

    /// A stream that did not reach its end has reported its prompt at most.
    fn usage_is_partial(&self) -> bool {
        self.record.streamed && !self.usage_is_final
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(
            Outcome::ClientGone,
            StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        );
    }
}
