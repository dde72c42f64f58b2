//! What the first segment of a TCP connection tells of the system that sent it, in p0f's terms:
//! `4:64+0:0:1460:mss*20,7:mss,sok,ts,nop,ws:df,id+:0`.
//!
//! The parts: IP version; TTL as seen, and how many routers it probably passed; length of IP options; MSS; window
//! (in multiples of MSS or MTU if it is one) and its scale; layout of the TCP options; quirks; whether it carries
//! data. The guess of a system goes by a table of our own, from what systems document or are known to send.

use std::fmt;

use serde::Serialize;

use crate::layer7::cursor::Cursor;

/// One SYN, small enough to keep for every flow; [`Self::signature`] spells it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynFingerprint {
    is_v6: bool,
    ttl: u8,
    ip_options_len: u8,
    window: u16,
    quirks: u32,
    has_data: bool,
    options: [u8; OPTIONS_MAX],
    options_len: u8,
}

/// A system that sends SYNs like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OsGuess {
    pub name: &'static str,
    /// How much of the SYN fits, of 100.
    pub confidence: u8,
}

/// Bytes of TCP options there can be.
const OPTIONS_MAX: usize = 40;

/// Bits of `quirks`, in the order they are written.
const QUIRKS: [&str; 17] = [
    "df", "id+", "id-", "ecn", "0+", "flow", "seq-", "ack+", "ack-", "uptr+", "urgf+", "pushf+", "ts1-",
    "ts2+", "opt+", "exws", "bad",
];

fn quirk(name: &str) -> u32 {
    QUIRKS
        .iter()
        .position(|quirk| *quirk == name)
        .map_or(0, |at| 1 << at)
}

/// What the options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    layout: Vec<Opt>,
    mss: Option<u16>,
    scale: Option<u8>,
    has_times: bool,
    quirks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opt {
    /// The end, and so many bytes after it.
    End(u8),
    Nop,
    Mss,
    Scale,
    SackOk,
    Sack,
    Times,
    Other(u8),
}

impl fmt::Display for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End(padding) => write!(f, "eol+{padding}"),
            Self::Nop => f.write_str("nop"),
            Self::Mss => f.write_str("mss"),
            Self::Scale => f.write_str("ws"),
            Self::SackOk => f.write_str("sok"),
            Self::Sack => f.write_str("sack"),
            Self::Times => f.write_str("ts"),
            Self::Other(kind) => write!(f, "?{kind}"),
        }
    }
}

impl SynFingerprint {
    /// Of a SYN without ACK, from the first byte of its IP header on. `None` if it is something else or cut.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header_len = usize::from(packet[0] & 15) * 4;
                let header = packet.get(..header_len.max(20))?;
                let (tos, id, fragment) = (header[1], &header[4..6], header[6]);
                let is_df = fragment & 0x40 != 0;
                let mut quirks = 0;
                if is_df {
                    quirks |= quirk("df");
                }
                match (is_df, id == [0, 0]) {
                    (true, false) => quirks |= quirk("id+"),
                    (false, true) => quirks |= quirk("id-"),
                    _ => {}
                }
                if fragment & 0x80 != 0 {
                    quirks |= quirk("0+");
                }
                if tos & 3 != 0 {
                    quirks |= quirk("ecn");
                }
                let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let options_len = header_len.checked_sub(20)?;
                let tcp = packet.get(header_len..)?;
                Self::of_tcp(
                    false,
                    header[8],
                    options_len,
                    quirks,
                    tcp,
                    total.saturating_sub(header_len),
                )
            }
            6 => {
                let header = packet.get(..40)?;
                let mut quirks = 0;
                if header[1] & 0x0f != 0 || header[2..4] != [0, 0] {
                    quirks |= quirk("flow");
                }
                if (header[0] << 4 | header[1] >> 4) & 3 != 0 {
                    quirks |= quirk("ecn");
                }
                // Behind extension headers nobody sends a SYN that means it.
                if header[6] != wire::ip_proto::TCP {
                    return None;
                }
                let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
                Self::of_tcp(true, header[7], 0, quirks, &packet[40..], len)
            }
            _ => None,
        }
    }

    /// `len` is what the IP header says of TCP header and data.
    fn of_tcp(
        is_v6: bool,
        ttl: u8,
        ip_options_len: usize,
        mut quirks: u32,
        tcp: &[u8],
        len: usize,
    ) -> Option<Self> {
        use wire::tcp::flag;
        let header: &[u8; 20] = tcp.first_chunk()?;
        let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let header_len = usize::from(header[12] >> 4) * 4;
        let flags = header[13];
        if flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) != flag::SYN {
            return None;
        }
        let options = tcp.get(20..header_len)?;
        let mut set = |is: bool, name: &str| {
            if is {
                quirks |= quirk(name);
            }
        };
        set(flags & (flag::ECE | flag::CWR) != 0, "ecn");
        set(header[12] & 0x0f != 0, "0+");
        set(header[4..8] == [0; 4], "seq-");
        set(header[8..12] != [0; 4], "ack+");
        let is_urgent = flags & flag::URG != 0;
        set(!is_urgent && u16_at(18) != 0, "uptr+");
        set(is_urgent, "urgf+");
        set(flags & flag::PSH != 0, "pushf+");
        let mut kept = [0; OPTIONS_MAX];
        kept[..options.len()].copy_from_slice(options);
        Some(Self {
            is_v6,
            ttl,
            ip_options_len: ip_options_len as u8,
            window: u16_at(14),
            quirks,
            has_data: len > header_len,
            options: kept,
            options_len: options.len() as u8,
        })
    }

    /// In p0f's terms.
    #[must_use]
    pub fn signature(&self) -> String {
        let options = self.options();
        let layout: Vec<String> = options.layout.iter().map(ToString::to_string).collect();
        let quirks = self.quirks | options.quirks;
        let set = QUIRKS.iter().enumerate().filter(|(at, _)| quirks >> at & 1 != 0);
        let quirks: Vec<&str> = set.map(|(_, name)| *name).collect();
        format!(
            "{}:{}+{}:{}:{}:{},{}:{}:{}:{}",
            if self.is_v6 { 6 } else { 4 },
            self.ttl,
            self.initial_ttl() - self.ttl,
            self.ip_options_len,
            options.mss.unwrap_or(0),
            self.window(&options),
            options.scale.unwrap_or(0),
            layout.join(","),
            quirks.join(","),
            if self.has_data { '+' } else { '0' },
        )
    }

    /// The system that fits best, if any fits well.
    #[must_use]
    pub fn os(&self) -> Option<OsGuess> {
        let options = self.options();
        let window = self.window(&options);
        let fits = |system: &System| {
            let has_layout = options.layout == system.layout;
            let has_df = self.is_v6 || system.is_df == (self.quirks & quirk("df") != 0);
            if !has_layout || !has_df || !system.ttls.contains(&self.initial_ttl()) {
                return None;
            }
            let has_window = system.windows.iter().any(|known| *known == window);
            let has_scale = system.scales.contains(&options.scale.unwrap_or(0));
            let confidence = 50 + u8::from(has_window) * 30 + u8::from(has_scale) * 15;
            (has_window || !system.is_by_window).then_some(OsGuess {
                name: system.name,
                confidence,
            })
        };
        // Of those that fit alike the first.
        SYSTEMS
            .iter()
            .filter_map(fits)
            .rev()
            .max_by_key(|guess| guess.confidence)
    }

    /// Systems begin at 32, 64, 128 or 255.
    fn initial_ttl(&self) -> u8 {
        match self.ttl {
            0..=32 => 32,
            33..=64 => 64,
            65..=128 => 128,
            129.. => 255,
        }
    }

    /// As a multiple of the MSS or of the MTU, if it is one; else the number.
    fn window(&self, options: &Options) -> String {
        let window = self.window;
        let headers = if self.is_v6 { 60 } else { 40 };
        if let Some(mss) = options.mss.filter(|&mss| mss >= 100 && window != 0) {
            let times_len = if options.has_times { 12 } else { 0 };
            for (unit, name) in [
                (mss, "mss"),
                (mss - times_len, "mss"),
                (mss.saturating_add(headers), "mtu"),
            ] {
                if window.is_multiple_of(unit) {
                    return format!("{name}*{}", window / unit);
                }
            }
        }
        window.to_string()
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        let mut rest = Cursor::new(&self.options[..usize::from(self.options_len).min(OPTIONS_MAX)]);
        if options.read(&mut rest).is_none() {
            options.quirks |= quirk("bad");
        }
        options
    }
}

impl Options {
    fn read(&mut self, rest: &mut Cursor<'_>) -> Option<()> {
        while !rest.is_empty() {
            let kind = rest.u8()?;
            match kind {
                0 => {
                    self.layout.push(Opt::End(rest.len() as u8));
                    if rest.rest().iter().any(|&byte| byte != 0) {
                        self.quirks |= quirk("opt+");
                    }
                    return Some(());
                }
                1 => {
                    self.layout.push(Opt::Nop);
                    continue;
                }
                _ => {}
            }
            let len = usize::from(rest.u8()?);
            let mut value = Cursor::new(rest.take(len.checked_sub(2)?)?);
            self.layout.push(match (kind, len) {
                (2, 4) => {
                    self.mss = value.u16();
                    Opt::Mss
                }
                (3, 3) => {
                    self.scale = value.u8();
                    if self.scale > Some(14) {
                        self.quirks |= quirk("exws");
                    }
                    Opt::Scale
                }
                (4, 2) => Opt::SackOk,
                (5, 10..=34) => Opt::Sack,
                (8, 10) => {
                    self.has_times = true;
                    if value.u32() == Some(0) {
                        self.quirks |= quirk("ts1-");
                    }
                    if value.u32() != Some(0) {
                        self.quirks |= quirk("ts2+");
                    }
                    Opt::Times
                }
                _ => Opt::Other(kind),
            });
        }
        Some(())
    }
}

/// A system and the SYNs it sends.
struct System {
    name: &'static str,
    /// What it begins with.
    ttls: &'static [u8],
    layout: &'static [Opt],
    windows: &'static [&'static str],
    scales: &'static [u8],
    is_df: bool,
    /// Only with one of these windows: others send the same layout.
    is_by_window: bool,
}

const LINUX: &[Opt] = &[Opt::Mss, Opt::SackOk, Opt::Times, Opt::Nop, Opt::Scale];
const APPLE: &[Opt] = &[
    Opt::Mss,
    Opt::Nop,
    Opt::Scale,
    Opt::Nop,
    Opt::Nop,
    Opt::Times,
    Opt::SackOk,
    Opt::End(1),
];
const WINDOWS: &[Opt] = &[Opt::Mss, Opt::Nop, Opt::Scale, Opt::Nop, Opt::Nop, Opt::SackOk];
const WINDOWS_XP: &[Opt] = &[Opt::Mss, Opt::Nop, Opt::Nop, Opt::SackOk];
const FREE_BSD: &[Opt] = &[Opt::Mss, Opt::Nop, Opt::Scale, Opt::SackOk, Opt::Times];
const OPEN_BSD: &[Opt] = &[
    Opt::Mss,
    Opt::Nop,
    Opt::Nop,
    Opt::SackOk,
    Opt::Nop,
    Opt::Scale,
    Opt::Nop,
    Opt::Nop,
    Opt::Times,
];

/// Windows of Linux are multiples of the MSS: 10 since 2.6.39, 20 since 4.4, 44 (of 1460, for 64 KiB) since 4.20;
/// Android's begins at 65535. nmap's SYN scan sends windows of 1 to 4 KiB with nothing but an MSS; masscan and
/// zmap send no option at all.
const SYSTEMS: &[System] = &[
    System {
        name: "Linux",
        ttls: &[64],
        layout: LINUX,
        windows: &[
            "mss*44", "mss*45", "mss*46", "mss*20", "mss*10", "mss*4", "mss*22",
        ],
        scales: &[5, 6, 7, 8, 9, 10],
        is_df: true,
        is_by_window: false,
    },
    System {
        name: "Android",
        ttls: &[64],
        layout: LINUX,
        windows: &["65535"],
        scales: &[6, 7, 8, 9],
        is_df: true,
        is_by_window: true,
    },
    System {
        name: "macOS or iOS",
        ttls: &[64],
        layout: APPLE,
        windows: &["65535"],
        scales: &[3, 4, 5, 6],
        is_df: true,
        is_by_window: false,
    },
    System {
        name: "Windows",
        ttls: &[128],
        layout: WINDOWS,
        windows: &["mss*44", "65535", "8192", "mss*45"],
        scales: &[2, 8],
        is_df: true,
        is_by_window: false,
    },
    System {
        name: "Windows XP",
        ttls: &[128],
        layout: WINDOWS_XP,
        windows: &["65535", "mss*44", "16384"],
        scales: &[0],
        is_df: true,
        is_by_window: false,
    },
    System {
        name: "FreeBSD",
        ttls: &[64],
        layout: FREE_BSD,
        windows: &["65535"],
        scales: &[3, 6, 7, 8, 9],
        is_df: true,
        is_by_window: false,
    },
    System {
        name: "OpenBSD",
        ttls: &[64],
        layout: OPEN_BSD,
        windows: &["16384"],
        scales: &[0, 3, 6],
        is_df: true,
        is_by_window: false,
    },
    System {
        name: "nmap",
        ttls: &[32, 64],
        layout: &[Opt::Mss],
        windows: &["1024", "2048", "3072", "4096"],
        scales: &[0],
        is_df: false,
        is_by_window: true,
    },
    System {
        name: "masscan or zmap",
        ttls: &[255],
        layout: &[],
        windows: &["1024", "65535"],
        scales: &[0],
        is_df: false,
        is_by_window: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN from its options; `id` is that of IPv4.
    fn syn(ttl: u8, is_df: bool, id: u16, window: u16, options: &[u8]) -> Vec<u8> {
        let total = (40 + options.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend([
            if is_df { 0x40 } else { 0 },
            0,
            ttl,
            6,
            0,
            0,
            192,
            0,
            2,
            1,
            192,
            0,
            2,
            2,
        ]);
        packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0]);
        packet.extend([(5 + options.len() as u8 / 4) << 4, 2]);
        packet.extend(window.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(options);
        packet
    }

    const LINUX: &[u8] = &[2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    const WINDOWS: &[u8] = &[2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];
    const APPLE: &[u8] = &[
        2, 4, 5, 180, 1, 3, 3, 6, 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 4, 2, 0, 0,
    ];

    fn check(packet: &[u8], signature: &str, os: Option<(&str, u8)>) {
        let syn = SynFingerprint::of(packet).expect("a SYN");
        assert_eq!(syn.signature(), signature);
        assert_eq!(
            syn.os().map(|guess| (guess.name, guess.confidence)),
            os,
            "{signature}"
        );
        for len in 0..packet.len() {
            let _ = SynFingerprint::of(&packet[..len]);
        }
    }

    #[test]
    fn systems() {
        check(
            &syn(64, true, 7, 29_200, LINUX),
            "4:64+0:0:1460:mss*20,7:mss,sok,ts,nop,ws:df,id+:0",
            Some(("Linux", 95)),
        );
        check(
            &syn(52, true, 7, 65_535, LINUX),
            "4:52+12:0:1460:65535,7:mss,sok,ts,nop,ws:df,id+:0",
            Some(("Android", 95)),
        );
        check(
            &syn(121, true, 7, 64_240, WINDOWS),
            "4:121+7:0:1460:mss*44,8:mss,nop,ws,nop,nop,sok:df,id+:0",
            Some(("Windows", 95)),
        );
        check(
            &syn(64, true, 0, 65_535, APPLE),
            "4:64+0:0:1460:65535,6:mss,nop,ws,nop,nop,ts,sok,eol+1:df:0",
            Some(("macOS or iOS", 95)),
        );
        check(
            &syn(50, false, 7, 1024, &[2, 4, 5, 180]),
            "4:50+14:0:1460:1024,0:mss::0",
            Some(("nmap", 95)),
        );
        check(&syn(64, false, 0, 512, &[]), "4:64+0:0:0:512,0::id-:0", None);
    }

    #[test]
    fn quirks() {
        let mut packet = syn(64, true, 0, 512, &[2, 4, 5, 180, 3, 3, 15, 0]);
        packet[20 + 13] |= 0x40 | 0x08 | 0x20;
        packet[20 + 4..20 + 8].fill(0);
        packet[20 + 11] = 1;
        check(
            &packet,
            "4:64+0:0:1460:512,15:mss,ws,eol+0:df,ecn,seq-,ack+,urgf+,pushf+,exws:0",
            None,
        );
        check(
            &syn(64, true, 0, 512, &[2, 9, 1, 1]),
            "4:64+0:0:0:512,0::df,bad:0",
            None,
        );
    }

    #[test]
    fn version_6() {
        let v4 = syn(
            64,
            true,
            7,
            64_800,
            &[2, 4, 5, 160, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7],
        );
        let mut packet = vec![0x60, 0, 0, 1, 0, 40, 6, 60];
        packet.extend([0; 32]);
        packet.extend(&v4[20..]);
        check(
            &packet,
            "6:60+4:0:1440:mss*45,7:mss,sok,ts,nop,ws:flow:0",
            Some(("Linux", 95)),
        );
    }

    #[test]
    fn only_of_a_syn() {
        let mut packet = syn(64, true, 7, 29_200, LINUX);
        packet[20 + 13] = 0x12;
        assert_eq!(SynFingerprint::of(&packet), None);
        assert_eq!(SynFingerprint::of(&[]), None);
    }
}
