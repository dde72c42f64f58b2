//! A filled graph of braille dots: two samples and four heights to a cell.

use ratatui::layout::Rect;
use ratatui::text::Line;

/// Dots of a braille cell from the bottom up, left and right column (Unicode chart U2800).
const LEFT: [u32; 4] = [0x40, 0x04, 0x02, 0x01];
const RIGHT: [u32; 4] = [0x80, 0x20, 0x10, 0x08];

/// Lines that fill `area` with the last samples, the newest at the right edge, the largest at the
/// top. Anything above zero has at least one dot, so that little traffic is not none.
pub(super) fn lines(samples: &[f64], area: Rect) -> Vec<Line<'static>> {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let shown = &samples[samples.len().saturating_sub(width * 2)..];
    let largest = shown.iter().copied().fold(0.0, f64::max);
    let n_empty = width * 2 - shown.len();
    let dots = |column: usize| match column.checked_sub(n_empty).and_then(|at| shown.get(at)) {
        Some(sample) if *sample > 0.0 => ((sample / largest * (height * 4) as f64).round() as usize).max(1),
        _ => 0,
    };
    let cell = |row: usize, column: usize| {
        let filled = |dots: usize, bits: [u32; 4]| -> u32 {
            let below = (height - 1 - row) * 4;
            bits.iter().take(dots.saturating_sub(below)).sum()
        };
        let bits = filled(dots(column * 2), LEFT) | filled(dots(column * 2 + 1), RIGHT);
        match bits {
            0 => ' ',
            bits => char::from_u32(0x2800 + bits).unwrap_or(' '),
        }
    };
    let line = |row| {
        (0..width)
            .map(|column| cell(row, column))
            .collect::<String>()
            .into()
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs() {
        #[track_caller]
        fn check(samples: &[f64], width: u16, height: u16, expected: &[&str]) {
            let drawn = lines(samples, Rect::new(0, 0, width, height));
            let drawn: Vec<String> = drawn.iter().map(ToString::to_string).collect();
            assert_eq!(drawn, expected);
        }
        check(&[], 3, 1, &["   "]);
        check(&[0.0, 1.0, 2.0, 3.0, 4.0], 3, 1, &[" ⣠⣾"]);
        check(&[8.0, 8.0, 0.001, 4.0], 2, 2, &["⣿ ", "⣿⣸"]);
        check(&[5.0; 9], 2, 1, &["⣿⣿"]);
        check(&[1.0], 0, 0, &[]);
    }
}
