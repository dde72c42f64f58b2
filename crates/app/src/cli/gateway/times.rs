//! Times as people write them.

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

/// `90s`, `15m`, `12h`, `30d`, `4w` as seconds.
pub(super) fn span_s(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a time as 90s, 15m, 12h, 30d or 4w, found `{text}`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number
        .checked_mul(unit_s)
        .filter(|span_s| *span_s < 1 << 33)
        .ok_or_else(wrong)
}

/// So long ago, a day (UTC), or a time of RFC 3339, in milliseconds since 1970.
pub(super) fn moment_ms(text: &str) -> Result<i64, String> {
    if let Ok(span_s) = span_s(text) {
        return Ok(now_ms().saturating_sub_unsigned(span_s * 1000));
    }
    if let Ok(day) = text.parse::<Date>()
        && text.len() == 10
    {
        let start = day.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(start.timestamp().as_millisecond());
    }
    text.parse::<Timestamp>()
        .map(Timestamp::as_millisecond)
        .map_err(|_| {
            format!("expected a time as 1h or 30d ago, 2026-11-20, or 2026-11-20T12:00:00Z, found `{text}`")
        })
}

pub(super) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(span_s(text).ok(), expected, "{text}");
        check("90s", Some(90));
        check("30d", Some(2_592_000));
        for bad in [
            "",
            "d",
            "1",
            "-1d",
            "1y",
            "1.5h",
            "99999999999999999999d",
            "9999999999w",
            "1é",
        ] {
            check(bad, None);
        }
        assert_eq!(moment_ms("2026-11-20"), Ok(1_795_132_800_000));
        assert_eq!(moment_ms("2026-11-20T00:00:01Z"), Ok(1_795_132_801_000));
        assert!(moment_ms("yesterday").is_err());
        assert!((now_ms() - 3_600_000 - moment_ms("1h").expect("a time")).abs() < 5_000);
    }
}
