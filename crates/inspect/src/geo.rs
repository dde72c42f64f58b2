//! Where addresses are: country and autonomous system, from databases in MaxMind's file format (MMDB).
//!
//! Two layouts of records are read: MaxMind's own, where the country is `country.iso_code`, and the flat
//! one of free databases, where it is `country_code`.

use std::net::IpAddr;

use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;

/// A country of ISO 3166-1, two capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    /// Of two letters in any case.
    #[must_use]
    pub fn new(code: &str) -> Option<Self> {
        let bytes: [u8; 2] = code.as_bytes().try_into().ok()?;
        let is_code = bytes.iter().all(u8::is_ascii_alphabetic);
        is_code.then(|| Self(bytes.map(|byte| byte.to_ascii_uppercase())))
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl std::fmt::Debug for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub country: Option<Country>,
    /// Number of the autonomous system and who runs it.
    pub asn: Option<u32>,
    pub organisation: Option<Box<str>>,
}

/// Databases asked one after another; each adds what those before it do not know.
#[derive(Default)]
pub struct Geo {
    readers: Vec<Reader<Vec<u8>>>,
    /// Whether the databases are the user's own, who may have put private networks in them. Those of others
    /// say nonsense of private addresses: the registries' data has 192.168.0.0/16 in Australia.
    pub knows_private: bool,
}

impl std::fmt::Debug for Geo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let types = self.readers.iter().map(|reader| &reader.metadata().database_type);
        f.debug_list().entries(types).finish()
    }
}

/// The fields of either layout.
#[derive(Deserialize, Default)]
struct Fields<'a> {
    #[serde(borrow, default)]
    country_code: Option<&'a str>,
    #[serde(borrow, default)]
    country: Option<Iso<'a>>,
    #[serde(borrow, default)]
    registered_country: Option<Iso<'a>>,
    #[serde(default)]
    autonomous_system_number: Option<u32>,
    #[serde(borrow, default)]
    autonomous_system_organization: Option<&'a str>,
    #[serde(default)]
    asn: Option<u32>,
    #[serde(borrow, default)]
    as_name: Option<&'a str>,
}

#[derive(Deserialize)]
struct Iso<'a> {
    #[serde(borrow, default)]
    iso_code: Option<&'a str>,
}

impl Geo {
    /// Adds a database.
    ///
    /// # Errors
    /// If the bytes are no MMDB file.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<(), MaxMindDbError> {
        self.readers.push(Reader::from_source(bytes)?);
        Ok(())
    }

    /// Whether there is no database.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// What the databases say of an address. Records that cannot be read say nothing.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        let mut place = Place::default();
        if !self.knows_private && !is_public(address) {
            return place;
        }
        for reader in &self.readers {
            let Ok(Some(fields)) = reader
                .lookup(address)
                .and_then(|found| found.decode::<Fields<'_>>())
            else {
                continue;
            };
            let nested = |iso: &Option<Iso<'_>>| iso.as_ref().and_then(|iso| Country::new(iso.iso_code?));
            let country = fields
                .country_code
                .and_then(Country::new)
                .or_else(|| nested(&fields.country))
                .or_else(|| nested(&fields.registered_country));
            place.country = place.country.or(country);
            place.asn = place.asn.or(fields.autonomous_system_number).or(fields.asn);
            if place.organisation.is_none() {
                let name = fields.autonomous_system_organization.or(fields.as_name);
                place.organisation = name.map(Into::into);
            }
        }
        place
    }
}

/// Whether an address may be of the public network: not private, local, multicast or undefined.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // Shared by carriers: RFC 6598.
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_unspecified()
                || is_shared)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests;
