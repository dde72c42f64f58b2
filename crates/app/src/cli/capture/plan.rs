//! What was asked for, checked before anything is opened.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use policy::filter::{Field, Filter, Scope};

use super::CaptureArgs;
use crate::packet_socket::{Directions, Interface, RING_LEN_MIN, SocketOptions};

/// Interfaces captured from at once.
const INTERFACES_MAX: usize = 64;
const ANY: &str = "any";

/// A capture that can begin.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) interfaces: Vec<Interface>,
    pub(super) target: Target,
    pub(super) filter: Option<Filter>,
    /// The filter as it was written.
    pub(super) filter_text: String,
    pub(super) directions: Directions,
    /// Bytes kept of each packet.
    pub(super) snaplen: u32,
    pub(super) count_max: u64,
    pub(super) seconds_max: Option<u32>,
    pub(super) bytes_max: u64,
    /// Memory of all rings together, in bytes.
    pub(super) ring_len: usize,
    pub(super) promiscuous: bool,
    pub(super) comment: String,
    pub(super) annotate: bool,
}

/// Where packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    StandardOutput,
    File(PathBuf),
    Gzip(PathBuf),
}

impl Plan {
    /// Checks what was asked for; the error is a sentence (or a filter error with its carets).
    pub(super) fn check(args: CaptureArgs) -> Result<Self, String> {
        let filter_text = args.filter.join(" ");
        let filter = if filter_text.trim().is_empty() {
            None
        } else {
            Some(parse_filter(&filter_text)?)
        };
        let target = target_of(args.write)?;
        Ok(Self {
            interfaces: interfaces_of(&args.iface)?,
            target,
            filter,
            filter_text,
            directions: args.direction,
            snaplen: args.snaplen,
            count_max: args.count.unwrap_or(u64::MAX),
            seconds_max: args.seconds,
            bytes_max: args.max_bytes.unwrap_or(u64::MAX),
            ring_len: (args.ring_mib as usize) << 20,
            promiscuous: args.promiscuous,
            comment: args.comment,
            annotate: args.annotate,
        })
    }

    /// How to open each socket.
    ///
    /// The kernel cuts packets only where nobody looks at their headers: a filter that saw less than
    /// the headers would match fewer packets than it says.
    pub(super) fn socket_options(&self) -> SocketOptions {
        let looks_at_headers = self.filter.is_some() || self.annotate;
        let headers_len = wire::load::OFFSET_MAX as u32 + 64;
        SocketOptions {
            directions: self.directions,
            snaplen: if looks_at_headers {
                self.snaplen.max(headers_len)
            } else {
                self.snaplen
            },
            ring_len: (self.ring_len / self.interfaces.len()).max(RING_LEN_MIN),
            promiscuous: self.promiscuous,
        }
    }
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let filter = Filter::parse(text)
        .and_then(|filter| filter.check_scope(Scope::Packet).map(|()| filter))
        .map_err(|error| format!("filter: {}", error.render(text)))?;
    // Known of packets in general, but there is no country data here: it would match nothing.
    let country = filter
        .fields_used()
        .into_iter()
        .find(|field| matches!(field, Field::Country | Field::SrcCountry | Field::DstCountry));
    match country {
        Some(field) => Err(format!(
            "filter: `{}` is not known while capturing: use addresses, or filter the file by country later",
            field.name()
        )),
        None => Ok(filter),
    }
}

fn target_of(path: PathBuf) -> Result<Target, String> {
    if path.as_os_str() == "-" {
        if std::io::stdout().is_terminal() {
            return Err(
                "`-w -` writes binary data, which a terminal cannot show: send it to a file or a program, \
                 as in `| tshark -r -`"
                    .to_owned(),
            );
        }
        return Ok(Target::StandardOutput);
    }
    if path.extension().is_some_and(|extension| extension == "gz") {
        Ok(Target::Gzip(path))
    } else {
        Ok(Target::File(path))
    }
}

fn interfaces_of(names: &[String]) -> Result<Vec<Interface>, String> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for name in names {
        let found = if name == ANY {
            Interface::all_up().map_err(|error| format!("{error:#}"))?
        } else {
            vec![Interface::by_name(name).map_err(|error| format!("{error:#}"))?]
        };
        for interface in found {
            if interfaces.iter().all(|other| other.index != interface.index) {
                interfaces.push(interface);
            }
        }
    }
    if interfaces.is_empty() {
        return Err("no interface is up that could be captured from".to_owned());
    }
    if interfaces.len() > INTERFACES_MAX {
        return Err(format!(
            "{} interfaces are more than can be captured from at once: expected at most {INTERFACES_MAX}",
            interfaces.len()
        ));
    }
    Ok(interfaces)
}

/// `1500`, `10k`, `500MB`, `2GiB`: a number of bytes, at least 1.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let digits_end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor: Option<u64> = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1_000),
        "m" | "mb" => Some(1_000_000),
        "g" | "gb" => Some(1_000_000_000),
        "t" | "tb" => Some(1_000_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        "tib" => Some(1 << 40),
        _ => None,
    };
    factor
        .zip(digits.parse::<u64>().ok())
        .and_then(|(factor, number)| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "expected a number of bytes, as 1500, 500MB or 2GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1500", Some(1500)),
            ("10k", Some(10_000)),
            ("500MB", Some(500_000_000)),
            ("2GiB", Some(2 << 30)),
            ("0", None),
            ("", None),
            ("MB", None),
            ("1.5GB", None),
            ("-1", None),
            ("1 fortnight", None),
            ("99999999999999999999", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn filters_are_of_packets() {
        let check = |text: &str, expected: &str| {
            let error = parse_filter(text).expect_err("an error");
            assert!(error.contains(expected), "{error}");
        };
        check("dprt == 53", "^");
        check("proto == tcp and bytes > 10", "`bytes` is known of flows");
        check("country == DE", "`country` is not known while capturing");
        assert!(parse_filter("proto == udp and port == 53").is_ok());
    }

    #[test]
    fn the_name_decides_the_format() {
        assert_eq!(target_of("a.pcapng".into()), Ok(Target::File("a.pcapng".into())));
        assert_eq!(
            target_of("a.pcapng.gz".into()),
            Ok(Target::Gzip("a.pcapng.gz".into()))
        );
    }
}
