//! Objects of DNP3 messages (IEEE 1815, annex A): headers, and the points of common groups.

use serde_json::{Map, Value, json};

use crate::layer7::reader::{Reader, eve_text};

/// Objects of one message, and points of one object, that are told.
const OBJECTS_MAX: usize = 32;
const POINTS_MAX: usize = 32;

/// A part of a point. Bits are told from the lowest on.
enum Part {
    Bits(&'static [(&'static str, u8)]),
    U8(&'static str),
    U16(&'static str),
    U32(&'static str),
    U48(&'static str),
    I16(&'static str),
    I32(&'static str),
    F32(&'static str),
    F64(&'static str),
    /// Everything that is left of the point.
    Text(&'static str),
}

use Part::{Bits, F32, F64, I16, I32, Text, U8, U16, U32, U48};

const BINARY: Part = Bits(&[
    ("online", 1),
    ("restart", 1),
    ("comm_lost", 1),
    ("remote_forced", 1),
    ("local_forced", 1),
    ("chatter_filter", 1),
    ("reserved", 1),
    ("state", 1),
]);
const COUNTER: Part = Bits(&[
    ("online", 1),
    ("restart", 1),
    ("comm_lost", 1),
    ("remote_forced", 1),
    ("local_forced", 1),
    ("rollover", 1),
    ("discontinuity", 1),
    ("reserved", 1),
]);
const ANALOG: Part = Bits(&[
    ("online", 1),
    ("restart", 1),
    ("comm_lost", 1),
    ("remote_forced", 1),
    ("local_forced", 1),
    ("over_range", 1),
    ("reference_err", 1),
    ("reserved", 1),
]);

/// The parts of a point of this group and variation.
fn parts(group: u8, variation: u8) -> Option<&'static [Part]> {
    Some(match (group, variation) {
        (1 | 10, 2) | (2 | 11, 1) => &[BINARY],
        (2 | 11, 2) => &[BINARY, U48("timestamp")],
        (2, 3) => &[BINARY, U16("timestamp")],
        (12, 1) => &[
            Bits(&[("op_type", 4), ("qu", 1), ("cr", 1), ("tcc", 2)]),
            U8("count"),
            U32("ontime"),
            U32("offtime"),
            Bits(&[("status_code", 7), ("reserved", 1)]),
        ],
        (20..=23, 1) => &[COUNTER, U32("count")],
        (20..=23, 2) => &[COUNTER, U16("count")],
        (20, 5) | (21, 9) => &[U32("count")],
        (20, 6) | (21, 10) => &[U16("count")],
        (21..=23, 5) => &[COUNTER, U32("count"), U48("timestamp")],
        (21..=23, 6) => &[COUNTER, U16("count"), U48("timestamp")],
        (30..=33, 1) | (40, 1) => &[ANALOG, I32("value")],
        (30..=33, 2) | (40, 2) => &[ANALOG, I16("value")],
        (30, 3) => &[I32("value")],
        (30, 4) => &[I16("value")],
        (30, 5) | (32 | 33, 5) | (40, 3) => &[ANALOG, F32("value")],
        (30, 6) | (32 | 33, 6) | (40, 4) => &[ANALOG, F64("value")],
        (32 | 33, 3) => &[ANALOG, I32("value"), U48("timestamp")],
        (32 | 33, 4) => &[ANALOG, I16("value"), U48("timestamp")],
        (32 | 33, 7) => &[ANALOG, F32("value"), U48("timestamp")],
        (32 | 33, 8) => &[ANALOG, F64("value"), U48("timestamp")],
        (41, 1) => &[I32("value"), U8("control_status")],
        (41, 2) => &[I16("value"), U8("control_status")],
        (41, 3) => &[F32("value"), U8("control_status")],
        (41, 4) => &[F64("value"), U8("control_status")],
        (50, 1 | 3) | (51, 1 | 2) => &[U48("timestamp")],
        (50, 2) => &[U48("timestamp"), U32("interval")],
        (52, 1) => &[U16("delay_secs")],
        (52, 2) => &[U16("delay_ms")],
        (70, 2) => &[
            U16("username_offset"),
            U16("username_size"),
            U16("password_offset"),
            U16("password_size"),
            U32("authentication_key"),
        ],
        (70, 3) => &[
            U16("filename_offset"),
            U16("filename_size"),
            U48("created"),
            U16("permissions"),
            U32("authentication_key"),
            U32("file_size"),
            U16("operational_mode"),
            U16("maximum_block_size"),
            U16("request_id"),
            Text("filename"),
        ],
        (70, 4) => &[
            U32("file_handle"),
            U32("file_size"),
            U16("maximum_block_size"),
            U16("request_id"),
            U8("status_code"),
            Text("optional_text"),
        ],
        (70, 5) => &[U32("file_handle"), U32("block_number"), Text("file_data")],
        (70, 6) => &[
            U32("file_handle"),
            U32("block_number"),
            U8("status_code"),
            Text("optional_text"),
        ],
        (70, 7) => &[
            U16("filename_offset"),
            U16("filename_size"),
            U16("file_type"),
            U32("file_size"),
            U48("created_timestamp"),
            U16("permissions"),
            U16("request_id"),
            Text("filename"),
        ],
        _ => return None,
    })
}

fn u48(reader: &mut Reader<'_>) -> Option<u64> {
    let (low, high) = (reader.le32()?, reader.le16()?);
    Some(u64::from(low) | u64::from(high) << 32)
}

fn put(part: &Part, reader: &mut Reader<'_>, point: &mut Map<String, Value>) -> Option<()> {
    let (name, value): (&str, Value) = match *part {
        Bits(names) => {
            let mut byte = u16::from(reader.u8()?);
            for &(name, n) in names {
                point.insert(name.into(), (byte & ((1 << n) - 1)).into());
                byte >>= n;
            }
            return Some(());
        }
        U8(name) => (name, reader.u8()?.into()),
        U16(name) => (name, reader.le16()?.into()),
        U32(name) => (name, reader.le32()?.into()),
        U48(name) => (name, u48(reader)?.into()),
        I16(name) => (name, (reader.le16()? as i16).into()),
        I32(name) => (name, (reader.le32()? as i32).into()),
        F32(name) => (name, f32::from_bits(reader.le32()?).into()),
        F64(name) => (name, f64::from_bits(reader.le64()?).into()),
        Text(name) => (name, eve_text(reader.take(reader.len())?).into()),
    };
    point.insert(name.into(), value);
    Some(())
}

/// A number of one, two or four bytes.
fn number(reader: &mut Reader<'_>, len: u8) -> Option<u32> {
    match len {
        1 => reader.u8().map(u32::from),
        2 => reader.le16().map(u32::from),
        _ => reader.le32(),
    }
}

/// All objects of a message, and whether they could be read to the end.
pub(super) fn objects(function: u8, body: &[u8]) -> (Vec<Value>, bool) {
    let mut reader = Reader::new(body);
    let mut told = Vec::new();
    while !reader.is_empty() {
        let Some((object, is_whole)) = object(function, &mut reader) else {
            return (told, false);
        };
        if told.len() < OBJECTS_MAX {
            told.push(object);
        }
        if !is_whole {
            return (told, false);
        }
    }
    (told, true)
}

fn object(function: u8, reader: &mut Reader<'_>) -> Option<(Value, bool)> {
    let (group, variation, qualifier) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let (prefix_code, range_code) = (qualifier >> 4 & 7, qualifier & 0xf);
    let (mut start, mut stop) = (0, 0);
    let count = match range_code {
        0..=5 => {
            let len = [1, 2, 4][usize::from(range_code % 3)];
            start = number(reader, len)?;
            stop = number(reader, len)?;
            stop.checked_sub(start)?.checked_add(1)?
        }
        6 => 0,
        7 => number(reader, 1)?,
        8 => number(reader, 2)?,
        9 => number(reader, 4)?,
        11 => number(reader, 1)?,
        _ => return None,
    };
    let mut points = Vec::new();
    // Who reads names points, but sends none of them.
    let has_points = count > 0 && (function != 1 || prefix_code != 0) && variation != 0;
    let mut is_whole = true;
    if has_points && matches!((group, variation), (1 | 10 | 80, 1)) && prefix_code == 0 {
        let bytes = reader.take(count.div_ceil(8) as usize)?;
        for at in 0..count.min(POINTS_MAX as u32) {
            let state = bytes[at as usize / 8] >> (at % 8) & 1;
            points.push(json!({"prefix": 0, "index": start + at, "state": state}));
        }
    } else if has_points {
        for at in 0..count {
            let len = [0, 1, 2, 4, 1, 2, 4, 0][usize::from(prefix_code)];
            let prefix = if len == 0 { 0 } else { number(reader, len)? };
            let mut point = Map::new();
            point.insert("prefix".into(), prefix.into());
            let is_size = matches!(prefix_code, 4..=6);
            let index = if is_size || len == 0 {
                start.checked_add(at)?
            } else {
                prefix
            };
            point.insert("index".into(), index.into());
            let parts = parts(group, variation);
            if is_size {
                point.insert("size".into(), prefix.into());
                let mut inner = Reader::new(reader.take(prefix as usize)?);
                for part in parts.unwrap_or_default() {
                    if put(part, &mut inner, &mut point).is_none() {
                        break;
                    }
                }
            } else {
                let Some(parts) = parts else {
                    is_whole = false;
                    break;
                };
                for part in parts {
                    put(part, reader, &mut point)?;
                }
            }
            if points.len() < POINTS_MAX {
                points.push(point.into());
            }
        }
    }
    let mut object = json!({
        "group": group, "variation": variation, "qualifier": qualifier, "prefix_code": prefix_code,
        "range_code": range_code, "start": start, "stop": stop, "count": count,
    });
    if !points.is_empty() {
        object["points"] = points.into();
    }
    Some((object, is_whole))
}
