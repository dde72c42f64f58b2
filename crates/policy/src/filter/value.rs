//! Constants: the text of one value to what it is for the field it is compared with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ast::TCP_FLAGS;
use super::error::{FilterError, Span, nearest, shown};
use super::fields::{FieldInfo, NamedNumber, Unit};

/// A value as written.
#[derive(Debug, Clone)]
pub(super) struct Literal {
    pub(super) text: String,
    pub(super) quoted: bool,
    pub(super) span: Span,
}

impl Literal {
    fn wrong(&self, message: String, hint: impl Into<String>) -> FilterError {
        FilterError::new(self.span.clone(), message, hint)
    }

    /// The field does not take this at all.
    pub(super) fn wrong_type(&self, info: &FieldInfo) -> FilterError {
        self.wrong(
            format!("{} takes {}, not {}", info.name, info.takes(), shown(&self.text)),
            format!("for example `{}`", info.example),
        )
    }
}

// === Numbers ===

/// What a number field allows.
pub(super) struct NumberRules<'a> {
    pub(super) info: &'a FieldInfo,
    pub(super) max: u64,
    pub(super) unit: Unit,
    pub(super) names: &'static [NamedNumber],
}

impl NumberRules<'_> {
    /// One number or name, in the field's unit.
    pub(super) fn number(&self, literal: &Literal) -> Result<u64, FilterError> {
        self.parse(literal, &literal.text)
    }

    /// A number, a name, or a range of numbers as `8000-8100`.
    pub(super) fn range(&self, literal: &Literal) -> Result<(u64, u64), FilterError> {
        let text = &literal.text;
        // Names may hold a hyphen, so a name is looked for before a range.
        if self.by_name(text).is_some() {
            return self.number(literal).map(|number| (number, number));
        }
        let Some((first, last)) = text
            .split_once('-')
            .filter(|(first, last)| !first.is_empty() && !last.is_empty())
        else {
            return self.number(literal).map(|number| (number, number));
        };
        if !first.starts_with(|c: char| c.is_ascii_digit()) && self.by_name(first).is_none() {
            return self.number(literal).map(|number| (number, number));
        }
        ordered(literal, (self.parse(literal, first)?, self.parse(literal, last)?))
    }

    fn by_name(&self, text: &str) -> Option<u64> {
        self.names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, number)| *number)
    }

    fn parse(&self, literal: &Literal, text: &str) -> Result<u64, FilterError> {
        if let Some(number) = self.by_name(text) {
            return Ok(number);
        }
        let number = if let Some(digits) = text.strip_prefix("0x") {
            u64::from_str_radix(digits, 16).map_err(|_| self.not_a_number(literal, text))?
        } else {
            let split = text
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(text.len());
            let (digits, suffix) = text.split_at(split);
            let (times, per) = self.scale(literal, text, suffix)?;
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            if whole.is_empty() || fraction.contains('.') || digits.ends_with('.') {
                return Err(self.not_a_number(literal, text));
            }
            decimal(whole, fraction, times, per).map_err(|problem| match problem {
                Decimal::TooLarge => self.too_large(literal, text),
                Decimal::NotWhole => literal.wrong(
                    format!(
                        "{} is not a whole number of the unit of {}",
                        shown(text),
                        self.info.name
                    ),
                    match self.unit.name() {
                        "" => "write a whole number".to_owned(),
                        unit => format!("{} is held in whole {unit}", self.info.name),
                    },
                ),
            })?
        };
        if number > self.max {
            Err(self.too_large(literal, text))
        } else {
            Ok(number)
        }
    }

    fn not_a_number(&self, literal: &Literal, text: &str) -> FilterError {
        let mut error = literal.wrong_type(self.info);
        if let Some(name) = nearest(text, self.names.iter().map(|(name, _)| *name)) {
            error.hint = format!("did you mean `{name}`?");
        }
        error
    }

    fn too_large(&self, literal: &Literal, text: &str) -> FilterError {
        literal.wrong(
            format!(
                "{} takes {}, and {} is more",
                self.info.name,
                self.info.takes(),
                shown(text)
            ),
            format!("the largest value is {}", self.max),
        )
    }

    /// What a number with this suffix is multiplied with and divided by.
    fn scale(&self, literal: &Literal, text: &str, suffix: &str) -> Result<(u128, u128), FilterError> {
        if suffix.is_empty() {
            return Ok((1, 1));
        }
        let known = match self.unit {
            Unit::None => None,
            Unit::Count => prefix(suffix).map(|times| (times, 1)),
            Unit::Bytes => {
                let bare = suffix.strip_suffix(['b', 'B']).unwrap_or(suffix);
                prefix(bare).map(|times| (times, 1))
            }
            Unit::BitsPerSecond => strip_any(suffix, &["bit/s", "bps", "bit"])
                .and_then(prefix)
                .map(|t| (t, 1)),
            Unit::PacketsPerSecond => strip_any(suffix, &["packets/s", "pps"])
                .and_then(prefix)
                .map(|t| (t, 1)),
            Unit::Microseconds => nanoseconds(suffix).map(|times| (times, 1_000)),
            Unit::Milliseconds => nanoseconds(suffix).map(|times| (times, 1_000_000)),
        };
        known.ok_or_else(|| {
            if !text.starts_with(|c: char| c.is_ascii_digit()) {
                return self.not_a_number(literal, text);
            }
            let hint = match self.unit {
                Unit::None => "write the plain number",
                Unit::Count => "k, M, G and T are known, and Ki, Mi, Gi, Ti",
                Unit::Bytes => "B, kB, MB, GB, TB are known, and KiB, MiB, GiB, TiB",
                Unit::BitsPerSecond => "k, M, G and T are known, also as kbit, Mbit, Gbit",
                Unit::PacketsPerSecond => "k, M and G are known, also as kpps, Mpps",
                Unit::Microseconds | Unit::Milliseconds => "ns, us, ms, s, m, h and d are known",
            };
            literal.wrong(
                format!("{} has a unit that {} does not take", shown(text), self.info.name),
                hint,
            )
        })
    }
}

/// `text` without the first of `endings` that it has, else as it is.
fn strip_any<'a>(text: &'a str, endings: &[&str]) -> Option<&'a str> {
    Some(
        endings
            .iter()
            .find_map(|ending| text.strip_suffix(ending))
            .unwrap_or(text),
    )
}

fn prefix(text: &str) -> Option<u128> {
    Some(match text {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        "t" | "T" => 1_000_000_000_000,
        "ki" | "Ki" => 1 << 10,
        "mi" | "Mi" => 1 << 20,
        "gi" | "Gi" => 1 << 30,
        "ti" | "Ti" => 1 << 40,
        _ => return None,
    })
}

fn nanoseconds(text: &str) -> Option<u128> {
    Some(match text {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

enum Decimal {
    TooLarge,
    NotWhole,
}

/// `whole.fraction × times ÷ per`: exactly, or rounded to the nearest where a unit was written
/// (`1.4GiB` is no whole number of bytes), but never to nothing.
fn decimal(whole: &str, fraction: &str, times: u128, per: u128) -> Result<u64, Decimal> {
    // Twenty digits hold every u64; what is longer is refused before any arithmetic.
    let fraction = fraction.trim_end_matches('0');
    if whole.trim_start_matches('0').len() > 20 {
        return Err(Decimal::TooLarge);
    }
    if fraction.len() > 12 {
        return Err(Decimal::NotWhole);
    }
    let mut digits = 0_u128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        digits = digits
            .checked_mul(10)
            .and_then(|n| n.checked_add(u128::from(digit - b'0')))
            .ok_or(Decimal::TooLarge)?;
    }
    // At most twelve zeros, so neither power nor product overflows.
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0)) * per;
    let scaled = digits.checked_mul(times).ok_or(Decimal::TooLarge)?;
    let has_unit = (times, per) != (1, 1);
    let rounded = scaled.saturating_add(divisor / 2) / divisor;
    if scaled % divisor != 0 && (!has_unit || rounded == 0) {
        return Err(Decimal::NotWhole);
    }
    u64::try_from(rounded).map_err(|_| Decimal::TooLarge)
}

fn ordered<T: PartialOrd>(literal: &Literal, (first, last): (T, T)) -> Result<(T, T), FilterError> {
    if first <= last {
        return Ok((first, last));
    }
    Err(literal.wrong(
        format!("the range {} ends before it begins", shown(&literal.text)),
        "write the smaller end first",
    ))
}

// === Addresses ===

/// An address, a network `10.0.0.0/8` or a range `10.0.0.1-10.0.0.9`, as first and last address.
pub(super) fn address_range(info: &FieldInfo, literal: &Literal) -> Result<(IpAddr, IpAddr), FilterError> {
    let text = literal.text.as_str();
    if let Some((address, prefix)) = text.split_once('/') {
        return network(info, literal, address, prefix);
    }
    if let Some((first, last)) = text.split_once('-') {
        let (Ok(first), Ok(last)) = (first.parse::<IpAddr>(), last.parse::<IpAddr>()) else {
            return Err(not_an_address(info, literal));
        };
        let (first, last) = match (first.to_canonical(), last.to_canonical()) {
            (first, last) if first.is_ipv4() == last.is_ipv4() => (first, last),
            // Only one end is IPv4-mapped: the range was meant among IPv6 addresses.
            _ if first.is_ipv6() && last.is_ipv6() => (first, last),
            _ => {
                return Err(literal.wrong(
                    format!("the range {} mixes IPv4 and IPv6", shown(text)),
                    "write one range for each family: `in {10.0.0.1-10.0.0.9, 2001:db8::1-2001:db8::9}`",
                ));
            }
        };
        return ordered(literal, (first, last));
    }
    let address = text
        .parse::<IpAddr>()
        .map_err(|_| not_an_address(info, literal))?
        .to_canonical();
    Ok((address, address))
}

fn network(
    info: &FieldInfo,
    literal: &Literal,
    address: &str,
    prefix: &str,
) -> Result<(IpAddr, IpAddr), FilterError> {
    let parsed = address
        .parse::<IpAddr>()
        .map_err(|_| not_an_address(info, literal))?;
    let (bits_max, family) = if parsed.is_ipv4() {
        (32, "IPv4")
    } else {
        (128, "IPv6")
    };
    let all_digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let bits = prefix
        .parse::<u32>()
        .ok()
        .filter(|bits| all_digits && *bits <= bits_max)
        .ok_or_else(|| {
            literal.wrong(
                format!(
                    "the prefix length of an {family} network is a number from 0 to {bits_max}, not {}",
                    shown(prefix)
                ),
                format!("`{parsed}/{bits_max}` is the address alone; a smaller number is a larger network"),
            )
        })?;
    let range = match parsed {
        IpAddr::V4(v4) => v4_network(v4, bits),
        // An IPv4-mapped network of 96 bits or more lies wholly within IPv4.
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() && bits >= 96 => {
            v4_network(v6.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED), bits - 96)
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            let first = v6.to_bits() & !host;
            (
                Ipv6Addr::from_bits(first).into(),
                Ipv6Addr::from_bits(first | host).into(),
            )
        }
    };
    Ok(range)
}

/// `bits` is at most 32; bits of `address` behind the prefix do not matter.
fn v4_network(address: Ipv4Addr, bits: u32) -> (IpAddr, IpAddr) {
    let host = u32::MAX.checked_shr(bits).unwrap_or(0);
    let first = address.to_bits() & !host;
    (
        Ipv4Addr::from_bits(first).into(),
        Ipv4Addr::from_bits(first | host).into(),
    )
}

fn not_an_address(info: &FieldInfo, literal: &Literal) -> FilterError {
    let text = literal.text.as_str();
    let mut error = literal.wrong_type(info);
    let address = text.split(['/', '-']).next().unwrap_or_default();
    let numbers = address
        .split('.')
        .filter(|part| part.parse::<u8>().is_ok())
        .count();
    if numbers == address.split('.').count() && numbers < 4 {
        let zeros = ".0".repeat(4 - numbers);
        error.hint = format!("write all four numbers, as `{address}{zeros}/{}`", numbers * 8);
    } else if text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains(':') {
        error.hint =
            "names are not looked up: write the address, or test `tls.sni`, `http.host` or `dns.query`"
                .into();
    }
    error
}

// === The rest ===

/// Six octets in hexadecimal, parted by colons or hyphens.
pub(super) fn mac(info: &FieldInfo, literal: &Literal) -> Result<[u8; 6], FilterError> {
    let mut octets = [0; 6];
    let mut n_octets = 0;
    for part in literal.text.split([':', '-']) {
        let octet = u8::from_str_radix(part, 16)
            .ok()
            .filter(|_| part.len() == 2 && !part.starts_with('+'));
        let (Some(slot), Some(octet)) = (octets.get_mut(n_octets), octet) else {
            return Err(literal.wrong_type(info));
        };
        *slot = octet;
        n_octets += 1;
    }
    if n_octets == 6 {
        Ok(octets)
    } else {
        Err(literal.wrong_type(info))
    }
}

/// Letters (`SA`), names (`syn+ack`), a number of the octet, or `none`.
pub(super) fn tcp_flags(literal: &Literal) -> Result<u8, FilterError> {
    let text = literal.text.as_str();
    if text.eq_ignore_ascii_case("none") {
        return Ok(0);
    }
    let number = text
        .strip_prefix("0x")
        .map_or_else(|| text.parse().ok(), |hex| u8::from_str_radix(hex, 16).ok());
    if let Some(number) = number.filter(|_| !text.contains('+')) {
        return Ok(number);
    }
    let by_names = text.split('+').try_fold(0_u8, |flags, name| {
        let bit = TCP_FLAGS
            .iter()
            .position(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(flags | 1 << bit)
    });
    let by_letters = || {
        text.chars().try_fold(0_u8, |flags, letter| {
            let letter = if letter.eq_ignore_ascii_case(&'w') {
                'C'
            } else {
                letter.to_ascii_uppercase()
            };
            let bit = TCP_FLAGS.iter().position(|(_, known)| *known == letter)?;
            Some(flags | 1 << bit)
        })
    };
    by_names
        .or_else(by_letters)
        .filter(|flags| *flags != 0)
        .ok_or_else(|| {
            literal.wrong(
                format!("{} are no TCP flags", shown(text)),
                "flags are letters of FSRPAUEC, as `SA`, or names, as `syn+ack`, or `none`",
            )
        })
}

/// `true` or `false`, also as `yes`, `no`, `1`, `0`.
pub(super) fn boolean(info: &FieldInfo, literal: &Literal) -> Result<bool, FilterError> {
    match literal.text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => {
            let mut error = literal.wrong_type(info);
            error.hint = format!("write `{0}` or `not {0}`", info.name);
            Err(error)
        }
    }
}
