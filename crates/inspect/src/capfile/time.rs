//! Ticks of a capture file to nanoseconds since the epoch.

const NS_PER_S: u64 = 1_000_000_000;

/// How an interface's 64-bit tick count becomes nanoseconds: `if_tsresol` and `if_tsoffset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeScale {
    unit: Unit,
    offset_s: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Ticks of this many nanoseconds.
    Multiply(u64),
    /// This many ticks a nanosecond.
    Divide(u64),
    /// 2^k ticks a second.
    PowerOfTwo(u8),
    /// So fine that 64 bits of ticks do not fill a nanosecond.
    Zero,
}

impl TimeScale {
    /// Microseconds, what pcapng assumes without `if_tsresol`.
    pub(super) const MICROSECONDS: TimeScale = TimeScale {
        unit: Unit::Multiply(1000),
        offset_s: 0,
    };

    /// From the raw `if_tsresol` byte: the top bit chooses base 2 over 10, the rest is a negative
    /// exponent. `offset_s` (`if_tsoffset`, seconds) is added to every time.
    pub(super) fn new(tsresol: u8, offset_s: i64) -> Self {
        let exponent = tsresol & 0x7f;
        let unit = if tsresol & 0x80 != 0 {
            Unit::PowerOfTwo(exponent)
        } else if exponent <= 9 {
            Unit::Multiply(10u64.pow(u32::from(9 - exponent)))
        } else {
            10u64
                .checked_pow(u32::from(exponent - 9))
                .map_or(Unit::Zero, Unit::Divide)
        };
        Self { unit, offset_s }
    }

    /// Nanoseconds since the epoch, and whether they fitted; else the nearest end of the range.
    #[inline(always)]
    pub(super) fn to_ns(self, ticks: u64) -> (u64, bool) {
        if let (Unit::Multiply(factor), 0) = (self.unit, self.offset_s) {
            return match ticks.checked_mul(factor) {
                Some(ns) => (ns, true),
                None => (u64::MAX, false),
            };
        }
        self.to_ns_wide(ticks)
    }

    fn to_ns_wide(self, ticks: u64) -> (u64, bool) {
        let ticks = u128::from(ticks);
        let ns = match self.unit {
            Unit::Multiply(factor) => ticks * u128::from(factor),
            Unit::Divide(divisor) => ticks / u128::from(divisor),
            // Below 2^94, and the exponent is at most 127.
            Unit::PowerOfTwo(exponent) => (ticks * u128::from(NS_PER_S)) >> exponent,
            Unit::Zero => 0,
        };
        // Below 2^94 in every arm, so the sum is far from i128's ends.
        let shifted = ns as i128 + i128::from(self.offset_s) * i128::from(NS_PER_S);
        match u64::try_from(shifted) {
            Ok(ns) => (ns, true),
            Err(_) if shifted < 0 => (0, false),
            Err(_) => (u64::MAX, false),
        }
    }
}

/// Nanoseconds of a pcap record: both fields are unsigned 32 bit, so nothing overflows, also where
/// the fraction is more than a second (which is carried over).
#[inline(always)]
pub(super) fn pcap_ns(seconds: u32, fraction: u32, ns_per_fraction: u32) -> u64 {
    u64::from(seconds) * NS_PER_S + u64::from(fraction) * u64::from(ns_per_fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tsresol: u8, offset_s: i64, ticks: u64, expected: (u64, bool)) {
        assert_eq!(TimeScale::new(tsresol, offset_s).to_ns(ticks), expected);
    }

    #[test]
    fn every_resolution_gives_nanoseconds() {
        check(6, 0, 1_500_000, (1_500_000_000, true));
        check(9, 0, 7, (7, true));
        check(0, 0, 2, (2_000_000_000, true));
        check(12, 0, 5_999, (5, true));
        check(0x80, 0, 3, (3_000_000_000, true));
        check(0x80 | 10, 0, 512, (500_000_000, true));
        check(0x80 | 32, 0, 1 << 32, (1_000_000_000, true));
        check(6, 10, 1, (10_000_001_000, true));
        check(6, -1, 1_000_001, (1_000, true));
    }

    #[test]
    fn absurd_times_stop_at_the_ends() {
        check(0, 0, u64::MAX, (u64::MAX, false));
        check(6, 0, u64::MAX, (u64::MAX, false));
        check(6, i64::MIN, 0, (0, false));
        check(6, i64::MAX, u64::MAX, (u64::MAX, false));
        check(6, -1, 0, (0, false));
        check(127, 0, u64::MAX, (0, true));
        check(0xff, 0, u64::MAX, (0, true));
        check(0x80, 0, u64::MAX, (u64::MAX, false));
        assert_eq!(
            pcap_ns(u32::MAX, u32::MAX, 1000),
            4_294_967_295_000_000_000 + 4_294_967_295_000
        );
    }
}
