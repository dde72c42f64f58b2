//! What a budget is: whose, for how long, how much.

use crate::civil::{DAY_MS, day_of, month_start_ms};
use serde::Serialize;
use std::sync::Arc;

/// What the money of an account is spent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A whole organisation.
    Organisation = 0,
    /// A team.
    Team = 1,
    /// A consumer application.
    Consumer = 2,
    /// One client key.
    Key = 3,
    /// A model.
    Model = 4,
    /// A service.
    Service = 5,
    /// A provider.
    Provider = 6,
}

impl Scope {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Organisation,
        Self::Team,
        Self::Consumer,
        Self::Key,
        Self::Model,
        Self::Service,
        Self::Provider,
    ];

    /// The stored text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::Consumer => "consumer",
            Self::Key => "key",
            Self::Model => "model",
            Self::Service => "service",
            Self::Provider => "provider",
        }
    }

    /// The scope with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// How long the money is for. Windows are of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// For ever.
    Total = 0,
    /// A day.
    Day = 1,
    /// A calendar month.
    Month = 2,
}

impl Period {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Total, Self::Day, Self::Month];

    /// When the window that `now_ms` is in began; what tells one window from another.
    pub fn window_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Total => 0,
            Self::Day => day_of(now_ms) * DAY_MS,
            Self::Month => month_start_ms(now_ms),
        }
    }

    /// The stored text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The period with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.as_str() == text)
    }
}

/// Which account. The same name in two periods is two accounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AccountKey {
    /// Whose.
    pub organisation: Arc<str>,
    /// Whose in it; empty for an account of the whole organisation.
    pub team: Arc<str>,
    /// What spends.
    pub scope: Scope,
    /// Its name.
    pub name: Arc<str>,
    /// For how long.
    pub period: Period,
}

impl std::fmt::Display for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            organisation,
            team,
            scope,
            name,
            period,
        } = self;
        write!(
            f,
            "{organisation}/{team}/{}/{name}/{}",
            scope.as_str(),
            period.as_str()
        )
    }
}

/// A budget as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub key: AccountKey,
    /// How much a window has, in 10^-12 USD.
    pub limit_pusd: i64,
    /// Never exceeded: a call takes what it may cost at most before it starts. Otherwise calls go on until
    /// the limit is reached, and exceed it by no more than the calls then open cost.
    pub hard: bool,
}

/// What a settlement is booked under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PostingInfo {
    /// The model that answered.
    pub model: Arc<str>,
    /// Its provider.
    pub provider: Arc<str>,
    /// Who called.
    pub consumer: Arc<str>,
    /// The usage is estimated, not reported.
    pub estimated: bool,
    /// When, in milliseconds since 1970; booked by the minute ([`super::TICK_MS`]).
    pub tick_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_with_their_day_or_month() {
        let at = 1_795_214_605_123; // 2026-11-20T22:43:25Z
        assert_eq!(Period::Total.window_ms(at), 0);
        assert_eq!(
            crate::civil::time_text(Period::Day.window_ms(at)),
            "2026-11-20T00:00:00.000Z"
        );
        assert_eq!(
            crate::civil::time_text(Period::Month.window_ms(at)),
            "2026-11-01T00:00:00.000Z"
        );
        let next = 1_796_083_200_000; // 2026-12-01
        assert_eq!(Period::Month.window_ms(next), next);
        assert_ne!(Period::Month.window_ms(next - 1), next);
    }

    #[test]
    fn texts_lead_back() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        for period in Period::ALL {
            assert_eq!(Period::parse(period.as_str()), Some(period));
        }
    }
}
