//! How a request to the gateway ended: the one closed set that labels response, log, metric and row.

/// How a request ended. Its text ([`Outcome::as_str`]) and its code (`as u8`) are stored: never change
/// either, add at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// The upstream answered, and the answer reached the client.
    #[default]
    Ok = 0,
    /// Answered from the cache.
    CacheHit = 1,
    /// The request is malformed, or its format cannot express what it asks for.
    ClientError = 2,
    /// No credential, or one that does not hold.
    Unauthenticated = 3,
    /// A credential that may not do this.
    Forbidden = 4,
    /// No route, or nothing of this name.
    NotFound = 5,
    /// No model of this name.
    UnknownModel = 6,
    /// A body, header or answer above its limit.
    TooLarge = 7,
    /// A limit of requests, tokens or concurrency.
    RateLimited = 8,
    /// A budget is spent.
    BudgetExceeded = 9,
    /// A guardrail refused the request or the answer.
    GuardBlocked = 10,
    /// The version is retired.
    Retired = 11,
    /// Weir does not offer this (501).
    NotSupported = 12,
    /// The upstream answered with an error of its own.
    ProviderError = 13,
    /// The upstream refused because of its limits (429 and the like).
    ProviderRateLimited = 14,
    /// The upstream refused our credential.
    ProviderAuth = 15,
    /// The upstream did not answer in time.
    ProviderTimeout = 16,
    /// No connection to the upstream.
    ProviderUnreachable = 17,
    /// No upstream is left: circuits open, or none healthy.
    NoUpstream = 18,
    /// The upstream's answer broke off, or could not be understood.
    BrokenReply = 19,
    /// The client left before the end.
    ClientGone = 20,
    /// The request took longer than allowed as a whole.
    Timeout = 21,
    /// Weir itself has no room: connections, queues, streams.
    Overloaded = 22,
    /// The ledger cannot answer, and the budget is hard.
    LedgerUnavailable = 23,
    /// A fault in Weir.
    Internal = 24,
}

impl Outcome {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 25] = [
        Self::Ok,
        Self::CacheHit,
        Self::ClientError,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::UnknownModel,
        Self::TooLarge,
        Self::RateLimited,
        Self::BudgetExceeded,
        Self::GuardBlocked,
        Self::Retired,
        Self::NotSupported,
        Self::ProviderError,
        Self::ProviderRateLimited,
        Self::ProviderAuth,
        Self::ProviderTimeout,
        Self::ProviderUnreachable,
        Self::NoUpstream,
        Self::BrokenReply,
        Self::ClientGone,
        Self::Timeout,
        Self::Overloaded,
        Self::LedgerUnavailable,
        Self::Internal,
    ];

    /// The stored text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::CacheHit => "cache_hit",
            Self::ClientError => "client_error",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::UnknownModel => "unknown_model",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::BudgetExceeded => "budget_exceeded",
            Self::GuardBlocked => "guard_blocked",
            Self::Retired => "retired",
            Self::NotSupported => "not_supported",
            Self::ProviderError => "provider_error",
            Self::ProviderRateLimited => "provider_rate_limited",
            Self::ProviderAuth => "provider_auth",
            Self::ProviderTimeout => "provider_timeout",
            Self::ProviderUnreachable => "provider_unreachable",
            Self::NoUpstream => "no_upstream",
            Self::BrokenReply => "broken_reply",
            Self::ClientGone => "client_gone",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::LedgerUnavailable => "ledger_unavailable",
            Self::Internal => "internal",
        }
    }

    /// The outcome with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// The outcome with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Did the client get what it asked for?
    pub fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::CacheHit)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_lead_back() {
        for (code, outcome) in (0_u8..).zip(Outcome::ALL) {
            assert_eq!(outcome as u8, code);
            assert_eq!(Outcome::from_code(code), Some(outcome));
            assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
        }
        assert_eq!(Outcome::from_code(Outcome::ALL.len() as u8), None);
        assert_eq!(Outcome::parse("fine"), None);
    }
}
