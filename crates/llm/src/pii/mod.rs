//! Personal data in text and JSON: found, then masked, replaced or put back later.
//!
//! One pass over the text ([`scan`]) asks a finder for each place where its kind can begin; operators'
//! own patterns and words are sought beside it ([`seek`]). What begins first wins, of two at one place
//! the operator's own, and the search goes on after its end. A stream is scrubbed to the same text as the
//! whole ([`StreamScrubber`]) and held back only while it is open what its last bytes are: mostly the
//! word or number in progress, [`LOOK_AHEAD_BYTES`] at most; with an operator's pattern always as many
//! bytes as its longest match.
//!
//! Of an answer, first scrub, then put back ([`StreamRestorer`], [`Vault::restore_json`]): tokens are not
//! personal, and what they stand for belongs to whoever asked.
//!
//! Precision is a feature: a finder asks for check digits, separators or a word such as `phone` before a
//! number, as its file says, and leaves dates, versions, hashes, prices and order numbers alone.

mod card;
mod digits;
mod email;
mod iban;
mod ip;
mod json;
mod national;
mod phone;
mod postal;
mod restore;
mod rules;
mod scan;
mod scrub;
mod seek;
mod vault;
mod view;
mod words;

pub use json::JsonPath;
pub use restore::StreamRestorer;
pub(crate) use rules::LABEL_MAX_BYTES;
pub use rules::{ActionName, Rule, RuleError, Side};
pub(crate) use scan::Next;
pub use scrub::{Found, Match, Scrubber, StreamScrubber};
pub(crate) use seek::Seeker;
pub use seek::{PATTERN_MATCH_BYTES, PATTERN_MATCH_BYTES_MAX, WORD_BYTES_MAX, WORDS_MAX};
pub use vault::{VAULT_ENTRIES_MAX, Vault};
pub use view::{LOOK_AHEAD_BYTES, LOOK_BEHIND_BYTES};

use serde::{Deserialize, Serialize};

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// Payment cards.
    Card,
    /// International bank account numbers.
    Iban,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Every national number below.
    NationalId,
    /// United States: social security and individual taxpayer numbers.
    UsSsn,
    /// Canada: social insurance numbers.
    CaSin,
    /// United Kingdom: National Insurance numbers.
    UkNino,
    /// China: resident identity numbers.
    CnId,
    /// Spain: DNI and NIE.
    EsDni,
    /// France: numéro de sécurité sociale.
    FrNir,
    /// Germany: Steuer-Identifikationsnummer.
    DeTaxId,
    /// India: Aadhaar.
    InAadhaar,
    /// Brazil: CPF.
    BrCpf,
    /// Every postal code below.
    PostalCode,
    /// Canada.
    CaPostalCode,
    /// United States: ZIP and ZIP+4.
    UsZip,
    /// United Kingdom.
    UkPostcode,
    /// Names of people, by the names of their fields. In JSON only.
    Name,
    /// Sums of money, by the names of their fields. In JSON only.
    Amount,
    /// Values that are dates, and dates of birth by the names of their fields. In JSON only.
    Date,
}

const NATIONAL: [Kind; 9] = [
    Kind::UsSsn,
    Kind::CaSin,
    Kind::UkNino,
    Kind::CnId,
    Kind::EsDni,
    Kind::FrNir,
    Kind::DeTaxId,
    Kind::InAadhaar,
    Kind::BrCpf,
];
const POSTAL: [Kind; 3] = [Kind::CaPostalCode, Kind::UsZip, Kind::UkPostcode];

impl Kind {
    /// The wider kind that a national number or a postal code belongs to, else the kind itself.
    pub fn family(self) -> Self {
        if NATIONAL.contains(&self) {
            Self::NationalId
        } else if POSTAL.contains(&self) {
            Self::PostalCode
        } else {
            self
        }
    }

    /// The kinds that finders tell apart within this one.
    fn parts(&self) -> &[Self] {
        match self {
            Self::NationalId => &NATIONAL,
            Self::PostalCode => &POSTAL,
            _ => std::slice::from_ref(self),
        }
    }

    /// The name in masks and tokens.
    pub fn label(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::Card => "CARD",
            Self::Iban => "IBAN",
            Self::Ip => "IP",
            Self::NationalId => "NATIONAL_ID",
            Self::UsSsn => "US_SSN",
            Self::CaSin => "CA_SIN",
            Self::UkNino => "UK_NINO",
            Self::CnId => "CN_ID",
            Self::EsDni => "ES_DNI",
            Self::FrNir => "FR_NIR",
            Self::DeTaxId => "DE_TAX_ID",
            Self::InAadhaar => "IN_AADHAAR",
            Self::BrCpf => "BR_CPF",
            Self::PostalCode => "POSTAL_CODE",
            Self::CaPostalCode => "CA_POSTAL_CODE",
            Self::UsZip => "US_ZIP",
            Self::UkPostcode => "UK_POSTCODE",
            Self::Name => "NAME",
            Self::Amount => "AMOUNT",
            Self::Date => "DATE",
        }
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u32);

impl Kinds {
    pub(crate) fn insert(&mut self, kind: Kind) {
        self.0 |= 1 << kind as u32;
    }

    pub(crate) fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Is there any kind that begins with a digit, addresses aside?
    pub(crate) fn has_numbers(self) -> bool {
        let addresses = (1 << Kind::Email as u32) | (1 << Kind::Ip as u32) | (1 << Kind::Iban as u32);
        self.0 & !addresses != 0
    }
}
