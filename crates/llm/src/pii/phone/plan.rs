//! The numbering plan (ITU-T E.164): assigned country codes, and how long their numbers are.

/// Country codes (ITU-T E.164, list of assigned codes) of one and two digits.
const SHORT_CODES: [u8; 46] = [
    1, 7, 20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57,
    58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];
/// Is it an assigned code of three digits?
fn is_long_code(code: u16) -> bool {
    matches!(code,
        211..=213 | 216 | 218 | 220..=258 | 260..=269 | 290 | 291 | 297..=299 | 350..=359 | 370..=378 | 380..=383
        | 385..=387 | 389 | 420 | 421 | 423 | 500..=509 | 590..=599 | 670 | 672..=683 | 685..=692 | 800 | 808 | 850
        | 852 | 853 | 855 | 856 | 870 | 878 | 880..=883 | 886 | 888 | 960..=968 | 970..=977 | 979 | 992..=996 | 998)
}

/// Digits of a number after the country code, where they are fixed.
const NATIONAL_LENGTHS: [(u8, usize, usize); 30] = [
    (1, 10, 10),
    (7, 10, 10),
    (20, 8, 10),
    (27, 9, 9),
    (30, 10, 10),
    (31, 9, 9),
    (32, 8, 9),
    (33, 9, 9),
    (34, 9, 9),
    (36, 8, 9),
    (39, 8, 11),
    (41, 9, 9),
    (43, 7, 13),
    (44, 9, 10),
    (45, 8, 8),
    (46, 7, 10),
    (47, 8, 8),
    (48, 9, 9),
    (49, 7, 12),
    (52, 10, 10),
    (55, 10, 11),
    (61, 9, 9),
    (64, 8, 10),
    (65, 8, 8),
    (81, 9, 10),
    (82, 8, 10),
    (84, 9, 10),
    (86, 10, 11),
    (90, 10, 10),
    (91, 10, 10),
];

/// Do the digits begin with a country code, and are they as many as its numbers have?
pub(super) fn assigned(digits: &[u8]) -> bool {
    if digits.len() < 8 || digits.len() > 15 {
        return false;
    }
    let two = digits[0] * 10 + digits[1];
    let code = match digits[0] {
        1 | 7 => digits[0],
        _ => two,
    };
    let national = digits.len() - if code < 10 { 1 } else { 2 };
    if SHORT_CODES.contains(&code) {
        let (_, min, max) = NATIONAL_LENGTHS
            .iter()
            .find(|(known, ..)| *known == code)
            .copied()
            .unwrap_or((code, 7, 12));
        let valid = match code {
            1 => is_north_american(&digits[1..]),
            _ => digits[digits.len() - national] != 0 || code == 39,
        };
        return (min..=max).contains(&national) && valid;
    }
    let three = u16::from(two) * 10 + u16::from(digits[2]);
    is_long_code(three) && (7..=10).contains(&(digits.len() - 3))
}

/// Area and exchange begin with 2 to 9 and are no service code such as 911.
pub(super) fn is_north_american(digits: &[u8]) -> bool {
    let code = |at: usize| digits[at] >= 2 && !(digits[at + 1] == 1 && digits[at + 2] == 1);
    digits.len() == 10 && code(0) && code(3) && digits[1] != 9
}
