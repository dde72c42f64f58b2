//! Days and months in UTC, from milliseconds since 1970.
//!
//! Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms" (days from civil and back).

/// Milliseconds of a minute.
pub const MINUTE_MS: i64 = 60_000;
/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// The day `at_ms` is in, counted from 1970-01-01.
pub fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// Year, month (1 to 12) and day of the month (1 to 31) of a day counted from 1970-01-01.
pub fn date_of_day(day: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the odd day of leap years is a year's last.
    let shifted = day.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (
        year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day_of_month,
    )
}

/// The day, counted from 1970-01-01, of a date. Months and days out of range give a day nearby.
pub fn day_of_date(year: i64, month: i64, day_of_month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day_of_month - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// When the month that `at_ms` is in began.
pub fn month_start_ms(at_ms: i64) -> i64 {
    let day = day_of(at_ms);
    let (_, _, day_of_month) = date_of_day(day);
    (day - (day_of_month - 1)) * DAY_MS
}

/// `2026-11-20`.
pub fn date_text(day: i64) -> String {
    let (year, month, day_of_month) = date_of_day(day);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

/// The day that [`date_text`] wrote, or `None` for other text.
pub fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let counted = day_of_date(year, month, day);
    (date_text(counted) == text).then_some(counted)
}

/// `2026-11-20T22:43:25.123Z`.
pub fn time_text(at_ms: i64) -> String {
    let of_day = at_ms.rem_euclid(DAY_MS);
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!(
        "{}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z",
        date_text(day_of(at_ms))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(at_ms: i64, text: &str, month_start: &str) {
        assert_eq!(time_text(at_ms), text);
        assert_eq!(date_text(day_of(month_start_ms(at_ms))), month_start, "{text}");
        assert_eq!(parse_date(&text[..10]), Some(day_of(at_ms)));
    }

    #[test]
    fn times_and_months() {
        check(0, "1970-01-01T00:00:00.000Z", "1970-01-01");
        check(-1, "1969-12-31T23:59:59.999Z", "1969-12-01");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z", "2000-02-01");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z", "2024-02-01");
        check(1_795_214_605_123, "2026-11-20T22:43:25.123Z", "2026-11-01");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z", "2100-03-01");
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "2026-11",
            "2026-13-01",
            "2026-02-30",
            "x-y-z",
            "2026-1-01",
            "2026-01-01-02",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn days_there_and_back() {
        for day in (-1_000_000..1_000_000).step_by(97) {
            let (year, month, of_month) = date_of_day(day);
            assert_eq!(day_of_date(year, month, of_month), day);
        }
    }
}
