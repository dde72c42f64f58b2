//! Nanoseconds since 1970 as text, in UTC.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// RFC 3339 with nanoseconds: `2016-07-13T22:42:07.199672000Z`.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub u64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", timestamp(self.0))
    }
}

/// As Suricata writes it, with microseconds and offset: `2016-07-13T22:42:07.199672+0000`.
#[derive(Clone, Copy, Debug)]
pub struct EveTime(pub u64);

impl fmt::Display for EveTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zoned = timestamp(self.0).to_zoned(TimeZone::UTC);
        zoned.strftime("%Y-%m-%dT%H:%M:%S.%6f%z").fmt(f)
    }
}

/// Every `u64` of nanoseconds is a date before the year 2555, which jiff holds.
fn timestamp(ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ns: u64, rfc3339: &str, eve: &str) {
        assert_eq!(Rfc3339(ns).to_string(), rfc3339);
        assert_eq!(EveTime(ns).to_string(), eve);
    }

    #[test]
    fn times_as_text() {
        check(
            1_468_449_727_199_672_001,
            "2016-07-13T22:42:07.199672001Z",
            "2016-07-13T22:42:07.199672+0000",
        );
        check(
            0,
            "1970-01-01T00:00:00.000000000Z",
            "1970-01-01T00:00:00.000000+0000",
        );
        check(
            u64::MAX,
            "2554-07-21T23:34:33.709551615Z",
            "2554-07-21T23:34:33.709551+0000",
        );
    }
}
