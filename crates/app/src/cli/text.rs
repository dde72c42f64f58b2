//! Numbers, times and colours as people read them.

use std::io::{IsTerminal as _, stdout};

/// What a piece of text means; how it looks is the painter's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Heading,
    Quiet,
    Good,
    Warning,
    Bad,
}

/// Puts colour around text, or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Painter {
    has_colour: bool,
}

impl Painter {
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { has_colour: false };

    /// Colour only on a terminal, and not where `NO_COLOR` (no-color.org) is set.
    pub(crate) fn for_stdout() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            has_colour: stdout().is_terminal() && !is_refused,
        }
    }

    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.has_colour || text.trim().is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Quiet => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// At most so many characters, the middle left out: names say most at either end.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    let n = text.chars().count();
    if n <= max {
        return text.to_owned();
    }
    let head = (max - 1) / 2;
    let tail = max - 1 - head;
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(n - tail).collect();
    format!("{begin}…{end}")
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in decimal units, three digits: `999 B`, `1.50 kB`, `23.4 MB`.
pub(crate) fn bytes(number: u64) -> String {
    scaled(number, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

fn scaled(number: u64, units: &[&str; 7]) -> String {
    if number < 1000 {
        return format!("{number} {}", units[0]);
    }
    let mut value = number as f64;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit < units.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// A time span in the largest unit that fits: `12 µs`, `3.4 ms`, `5.6 s`, `2m03s`, `1h02m`, `3d04h`.
pub(crate) fn duration_ns(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let seconds = ns / SECOND;
    match ns {
        0 => "0".to_owned(),
        1..1_000_000 => format!("{} µs", ns.div_ceil(1000)),
        1_000_000..SECOND => format!("{:.1} ms", ns as f64 / 1e6),
        _ if seconds < 60 => format!("{:.1} s", ns as f64 / 1e9),
        _ if seconds < 3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `part` of `whole` in percent: `12.3 %`, `<0.1 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    if part > 0 && share < 0.05 {
        "<0.1 %".to_owned()
    } else {
        format!("{share:.1} %")
    }
}

/// Address and port; brackets keep an IPv6 address apart from its port (RFC 5952, section 6).
pub(crate) fn endpoint(address: std::net::IpAddr, port: Option<u16>) -> String {
    match port {
        None => address.to_string(),
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
    }
}

/// Which side of its column a cell stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A cell and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Cell(pub(crate) String, pub(crate) Tone);

impl Cell {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self(text.into(), Tone::Plain)
    }
}

/// Lines with aligned columns, two spaces apart, without trailing spaces.
pub(crate) fn columns(painter: Painter, aligns: &[Align], rows: &[Vec<Cell>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.0.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..aligns.len()).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        let mut pending_spaces = 0;
        for ((cell, align), width) in row.iter().zip(aligns).zip(&widths) {
            let missing = width - cell.0.chars().count();
            let (before, after) = match align {
                Align::Left => (0, missing),
                Align::Right => (missing, 0),
            };
            if !cell.0.is_empty() {
                line.extend(std::iter::repeat_n(' ', pending_spaces + before));
                line.push_str(&painter.paint(cell.1, &cell.0));
                pending_spaces = after + 2;
            } else {
                pending_spaces += missing + 2;
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        let check = |found: String, expected: &str| assert_eq!(found, expected);
        check(grouped(0), "0");
        check(grouped(999), "999");
        check(grouped(1_234_567), "1,234,567");
        check(bytes(999), "999 B");
        check(bytes(1500), "1.50 kB");
        check(bytes(999_999), "1.00 MB");
        check(bytes(23_449_999), "23.4 MB");
        check(bytes(u64::MAX), "18.4 EB");
        check(duration_ns(0), "0");
        check(duration_ns(1), "1 µs");
        check(duration_ns(3_440_000), "3.4 ms");
        check(duration_ns(123_000_000_000), "2m03s");
        check(duration_ns(273_600_000_000_000), "3d04h");
        check(percent(1, 1_000_000), "<0.1 %");
        check(percent(1, 0), "100.0 %");
    }

    #[test]
    fn columns_are_aligned() {
        let row = |a: &str, b: &str| vec![Cell::plain(a), Cell::plain(b)];
        let rows = [row("name", "n"), row("µ", "100"), row("x", "")];
        let text = columns(Painter::PLAIN, &[Align::Left, Align::Right], &rows);
        assert_eq!(text, "name    n\nµ     100\nx\n");
    }
}
