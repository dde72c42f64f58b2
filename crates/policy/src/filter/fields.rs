//! Fields: what they are called, what they hold, where they are known. The rows are in `table.rs`.

use super::table::FIELDS;

/// Everything a filter can ask about. [`fields`] describes each one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each field's meaning is its sentence in the table of fields"
)]
pub enum Field {
    Src,
    Dst,
    Host,
    Sport,
    Dport,
    Port,
    Proto,
    Family,
    Iface,
    Direction,
    SrcMac,
    DstMac,
    Vlan,
    Tunnel,
    Vni,
    Len,
    Ttl,
    Frag,
    Flags,
    FlagsFin,
    FlagsSyn,
    FlagsRst,
    FlagsPsh,
    FlagsAck,
    FlagsUrg,
    FlagsEce,
    FlagsCwr,
    TcpState,
    TcpRttUs,
    TcpRetransmits,
    TcpOutOfOrder,
    TcpZeroWindow,
    TcpResets,
    TcpWindow,
    IcmpType,
    IcmpCode,
    Packets,
    PacketsToServer,
    PacketsToClient,
    Bytes,
    BytesToServer,
    BytesToClient,
    RateBps,
    RatePps,
    Duration,
    Age,
    Incomplete,
    Verdict,
    Pid,
    Comm,
    Container,
    Cgroup,
    App,
    Service,
    TlsSni,
    TlsVersion,
    TlsAlpn,
    Ja4,
    HttpHost,
    HttpMethod,
    HttpPath,
    HttpUserAgent,
    HttpStatus,
    DnsQuery,
    DnsRcode,
    SshClient,
    Country,
    SrcCountry,
    DstCountry,
}

/// How the value of a field comes from [`Facts`](super::Facts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `Facts::get` is asked for the field itself.
    Itself,
    /// Either of two fields: `Facts::get` is asked for both, never for this one.
    Either(Field, Field),
    /// One bit of [`Field::Flags`]: `Facts::get` is asked for that.
    FlagBit(u8),
}

impl Field {
    /// Where the value of this field comes from.
    #[inline]
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::Host => Source::Either(Self::Src, Self::Dst),
            Self::Port => Source::Either(Self::Sport, Self::Dport),
            Self::Country => Source::Either(Self::SrcCountry, Self::DstCountry),
            Self::FlagsFin => Source::FlagBit(0x01),
            Self::FlagsSyn => Source::FlagBit(0x02),
            Self::FlagsRst => Source::FlagBit(0x04),
            Self::FlagsPsh => Source::FlagBit(0x08),
            Self::FlagsAck => Source::FlagBit(0x10),
            Self::FlagsUrg => Source::FlagBit(0x20),
            Self::FlagsEce => Source::FlagBit(0x40),
            Self::FlagsCwr => Source::FlagBit(0x80),
            _ => Source::Itself,
        }
    }

    /// The row of the table that describes this field.
    #[must_use]
    pub fn info(self) -> &'static FieldInfo {
        // A test holds that the table is in the order of the enum.
        &FIELDS[self as usize]
    }

    /// The field's canonical name, as `tls.sni`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The field of this name or alias, in any case of letters.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        FIELDS
            .iter()
            .find(|info| info.names().any(|known| known.eq_ignore_ascii_case(name)))
            .map(|info| info.field)
    }
}

/// What a filter is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One packet, as in `weir capture`.
    Packet,
    /// A flow: both directions of a conversation, as in `weir flows`.
    Flow,
}

/// The unit a number is held in. Numbers in a filter may carry another unit of the same family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A name or code, no quantity: ports, identifiers, types.
    None,
    /// How many: `10k`, `5M`.
    Count,
    /// Octets: `1500`, `1.5GB`, `64KiB`.
    Bytes,
    /// Bits per second: `10M`, `1.5Gbit`.
    BitsPerSecond,
    /// Packets per second: `10k`, `2Mpps`.
    PacketsPerSecond,
    /// Microseconds: `500`, `10ms`, `2s`.
    Microseconds,
    /// Milliseconds: `500`, `10ms`, `5m`.
    Milliseconds,
}

/// A number that has a name, as 6 is `tcp`.
pub type NamedNumber = (&'static str, u64);

/// What a field holds, and so which operators and values it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// An IPv4 or IPv6 address; IPv4-mapped IPv6 addresses count as IPv4.
    Address,
    /// A link-layer address of six octets.
    Mac,
    /// A whole number up to `max`, in `unit`. A value of several names is shown by the first.
    Number {
        /// Largest value that makes sense.
        max: u64,
        /// What the number is held in.
        unit: Unit,
        /// Names that may be written for numbers.
        names: &'static [NamedNumber],
    },
    /// The TCP flags octet, written as letters (`SA`) or names (`syn+ack`).
    TcpFlags,
    /// True or false.
    Bool,
    /// Text.
    Text {
        /// Whether `A` and `a` are the same here.
        ignore_case: bool,
        /// Values to offer in completion.
        known: &'static [&'static str],
        /// Whether a value outside `known` is an error.
        only_known: bool,
    },
}

/// One row of the table of fields.
#[derive(Debug, Clone, Copy)]
pub struct FieldInfo {
    /// The field.
    pub field: Field,
    /// Canonical name.
    pub name: &'static str,
    /// Other names it goes by.
    pub aliases: &'static [&'static str],
    /// What it holds.
    pub field_type: FieldType,
    /// Where it is known.
    pub scopes: &'static [Scope],
    /// One sentence for the manual.
    pub doc: &'static str,
    /// A filter that uses it.
    pub example: &'static str,
}

impl FieldInfo {
    /// The canonical name, then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// What the field takes, for messages: "a number from 0 to 65535".
    #[must_use]
    pub fn takes(&self) -> String {
        match self.field_type {
            FieldType::Address => "an address, a network or a range of addresses".to_owned(),
            FieldType::Mac => "a MAC address".to_owned(),
            FieldType::TcpFlags => "TCP flags".to_owned(),
            FieldType::Bool => "true or false".to_owned(),
            FieldType::Text {
                known,
                only_known: true,
                ..
            } => format!("one of {}", known.join(", ")),
            FieldType::Text { .. } => "text".to_owned(),
            FieldType::Number {
                max,
                unit: Unit::None,
                names,
            } if max < u64::MAX => {
                let or_name = if names.is_empty() { "" } else { ", or a name" };
                format!("a number from 0 to {max}{or_name}")
            }
            FieldType::Number { unit, .. } => format!("a number{}", unit.takes()),
        }
    }

    /// The unit of the field for the manual: "ms", or "" where there is none.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.field_type {
            FieldType::Number { unit, .. } => unit.name(),
            _ => "",
        }
    }

    /// The operators that make sense for the field, as written.
    #[must_use]
    pub fn operators(&self) -> &'static [&'static str] {
        match self.field_type {
            FieldType::Address | FieldType::Mac => &["==", "!=", "in", "not in"],
            FieldType::Number { .. } => &["==", "!=", "<", "<=", ">", ">=", "in", "not in"],
            FieldType::TcpFlags => &["==", "!=", "contains", "in", "not in"],
            FieldType::Bool => &["==", "!="],
            FieldType::Text { .. } => &[
                "==",
                "!=",
                "in",
                "not in",
                "contains",
                "startswith",
                "endswith",
                "matches",
            ],
        }
    }
}

impl Unit {
    /// Short name: "ms".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None | Self::Count => "",
            Self::Bytes => "bytes",
            Self::BitsPerSecond => "bit/s",
            Self::PacketsPerSecond => "packets/s",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
        }
    }

    fn takes(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Count => ", as 500, 10k or 5M",
            Self::Bytes => " of bytes, as 1500, 64KiB or 1.5GB",
            Self::BitsPerSecond => " of bits per second, as 9600, 10M or 1.5Gbit",
            Self::PacketsPerSecond => " of packets per second, as 500, 10k or 2Mpps",
            Self::Microseconds => " of microseconds or a time, as 500, 10ms or 2s",
            Self::Milliseconds => " of milliseconds or a time, as 500, 2s or 5m",
        }
    }
}

/// Every field, in the order of the manual.
#[must_use]
pub fn fields() -> &'static [FieldInfo] {
    FIELDS
}
