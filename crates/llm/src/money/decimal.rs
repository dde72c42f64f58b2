//! Decimal text to whole numbers of the last place and back, exactly.

use super::MoneyError;

/// Longer texts are no prices. Bounds the work on a text from outside.
const TEXT_BYTES_MAX: usize = 64;
/// More than any shift below can need; keeps exponents in an `i64`.
const EXPONENT_DIGITS_MAX: usize = 9;

/// A decimal without a sign (`digits[.digits][e[+-]digits]`) in units of `10^-places`.
pub(super) fn parse(text: &str, places: u32) -> Result<u128, MoneyError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(MoneyError::NotDecimal);
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(MoneyError::NotDecimal),
        None => (mantissa, ""),
    };
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|byte| byte.is_ascii_digit())
    {
        return Err(MoneyError::NotDecimal);
    }
    // Zeros at either end say nothing and must not overflow.
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let trailing = digits.len() - significant.len();
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let number: u128 = significant.parse().map_err(|_| MoneyError::TooLarge)?;
    let shift = exponent + trailing as i64 - fraction.len() as i64 + i64::from(places);
    // The last digit is not zero, so a shift to the right would lose it.
    let shift = u32::try_from(shift).map_err(|_| {
        if shift < 0 {
            MoneyError::TooFine { places }
        } else {
            MoneyError::TooLarge
        }
    })?;
    let factor = 10_u128.checked_pow(shift).ok_or(MoneyError::TooLarge)?;
    number.checked_mul(factor).ok_or(MoneyError::TooLarge)
}

fn parse_exponent(text: &str) -> Result<i64, MoneyError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > EXPONENT_DIGITS_MAX {
        return Err(MoneyError::NotDecimal);
    }
    let exponent: i64 = digits.parse().map_err(|_| MoneyError::NotDecimal)?;
    Ok(if negative { -exponent } else { exponent })
}

/// `number` × `10^-places` as decimal text, without an exponent or needless zeros.
pub(super) fn show(number: u128, places: u32) -> String {
    let unit = 10_u128.pow(places);
    let (whole, fraction) = (number / unit, number % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let fraction = format!("{fraction:0width$}", width = places as usize);
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// The start of a text, for an error message.
pub(super) fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(end, _)| end);
    &text[..end]
}
