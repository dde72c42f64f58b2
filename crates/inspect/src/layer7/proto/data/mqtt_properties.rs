//! Properties of MQTT 5 packets (section 2.2.2.2 of the standard).

use serde_json::{Map, Value};

use crate::layer7::reader::{Reader, eve_text};

/// Properties of one packet that are told.
const PROPERTIES_MAX: usize = 64;

enum Kind {
    Byte,
    Two,
    Four,
    Varint,
    Text,
}

fn property(id: u32) -> Option<(&'static str, Kind)> {
    Some(match id {
        0x01 => ("payload_format_indicator", Kind::Byte),
        0x02 => ("message_expiry_interval", Kind::Four),
        0x03 => ("content_type", Kind::Text),
        0x08 => ("response_topic", Kind::Text),
        0x09 => ("correlation_data", Kind::Text),
        0x0b => ("subscription_identifier", Kind::Varint),
        0x11 => ("session_expiry_interval", Kind::Four),
        0x12 => ("assigned_client_identifier", Kind::Text),
        0x13 => ("server_keep_alive", Kind::Two),
        0x15 => ("authentication_method", Kind::Text),
        0x16 => ("authentication_data", Kind::Text),
        0x17 => ("request_problem_information", Kind::Byte),
        0x18 => ("will_delay_interval", Kind::Four),
        0x19 => ("request_response_information", Kind::Byte),
        0x1a => ("response_information", Kind::Text),
        0x1c => ("server_reference", Kind::Text),
        0x1f => ("reason_string", Kind::Text),
        0x21 => ("receive_maximum", Kind::Two),
        0x22 => ("topic_alias_maximum", Kind::Two),
        0x23 => ("topic_alias", Kind::Two),
        0x24 => ("maximum_qos", Kind::Byte),
        0x25 => ("retain_available", Kind::Byte),
        0x27 => ("maximum_packet_size", Kind::Four),
        0x28 => ("wildcard_subscription_available", Kind::Byte),
        0x29 => ("subscription_identifiers_available", Kind::Byte),
        0x2a => ("shared_subscription_available", Kind::Byte),
        _ => return None,
    })
}

/// A user's own property: its name is in the packet.
const USER: u32 = 0x26;

fn varint(reader: &mut Reader<'_>) -> Option<u32> {
    let mut value = 0;
    for at in 0..4 {
        let byte = reader.u8()?;
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The properties that come next; `None` if they are not as the standard has them.
pub(super) fn properties(reader: &mut Reader<'_>) -> Option<Map<String, Value>> {
    let len = varint(reader)?;
    let mut reader = Reader::new(reader.take(len as usize)?);
    let mut told = Map::new();
    while !reader.is_empty() {
        let id = varint(&mut reader)?;
        let (name, value) = if id == USER {
            let name = eve_text(reader.piece16()?);
            (name, eve_text(reader.piece16()?).into())
        } else {
            let (name, kind) = property(id)?;
            let value: Value = match kind {
                Kind::Byte => reader.u8()?.into(),
                Kind::Two => reader.be16()?.into(),
                Kind::Four => reader.be32()?.into(),
                Kind::Varint => varint(&mut reader)?.into(),
                Kind::Text => eve_text(reader.piece16()?).into(),
            };
            (name.to_owned(), value)
        };
        if told.len() < PROPERTIES_MAX {
            told.insert(name, value);
        }
    }
    Some(told)
}
