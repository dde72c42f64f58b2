//! Tables that fit the terminal: columns shrink first, then the least important ones go.

use crate::cli::text::{Align, Cell, Painter, Tone, columns};

/// A column and what may be done to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) align: Align,
    /// Narrowest useful width; longer cells end in `…`.
    pub(super) width_min: usize,
    /// Those with the highest number go first; 0 stays always.
    pub(super) expendable: u8,
}

const GAP_LEN: usize = 2;

/// Columns of the terminal; `None` where the output is no terminal, which has no width.
pub(super) fn terminal_width() -> Option<usize> {
    use std::io::IsTerminal as _;
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let (width, _) = ratatui::crossterm::terminal::size().ok()?;
    (width > 0).then_some(usize::from(width))
}

/// Heading and rows as lines of at most `width` characters.
pub(super) fn table(painter: Painter, shape: &[Column], rows: &[Vec<Cell>], width: Option<usize>) -> String {
    let heading = |column: &Column| Cell(column.heading.to_owned(), Tone::Heading);
    let mut all = vec![shape.iter().map(heading).collect::<Vec<_>>()];
    all.extend_from_slice(rows);

    let natural: Vec<usize> = (0..shape.len()).map(|at| widest(&all, at)).collect();
    let mut kept: Vec<usize> = (0..shape.len()).collect();
    let Some(width) = width else {
        return lay_out(painter, shape, &all, &kept, &natural);
    };
    let narrowest = |kept: &[usize]| {
        let cells: usize = kept.iter().map(|&at| natural[at].min(shape[at].width_min)).sum();
        cells + GAP_LEN * kept.len().saturating_sub(1)
    };
    while narrowest(&kept) > width {
        let Some(&victim) = kept.iter().max_by_key(|&&at| shape[at].expendable) else {
            break;
        };
        if shape[victim].expendable == 0 {
            break;
        }
        kept.retain(|&at| at != victim);
    }
    let mut widths = natural;
    let wanted: Vec<usize> = shape.iter().map(|column| column.width_min).collect();
    shrink(&mut widths, &kept, &wanted, width);
    // A terminal too narrow even so: better a torn word than a wrapped line.
    shrink(&mut widths, &kept, &vec![1; shape.len()], width);
    lay_out(painter, shape, &all, &kept, &widths)
}

/// Takes from the column with most to spare above its floor, until the line fits or none has any.
fn shrink(widths: &mut [usize], kept: &[usize], floors: &[usize], width: usize) {
    loop {
        let total = kept.iter().map(|&at| widths[at]).sum::<usize>() + GAP_LEN * kept.len().saturating_sub(1);
        let slack = |at: usize| widths[at].saturating_sub(floors[at]);
        let Some(&widest) = kept.iter().max_by_key(|&&at| slack(at)) else {
            return;
        };
        if total <= width || slack(widest) == 0 {
            return;
        }
        widths[widest] -= 1;
    }
}

fn widest(rows: &[Vec<Cell>], at: usize) -> usize {
    let lengths = rows.iter().filter_map(|row| row.get(at));
    lengths.map(|cell| cell.0.chars().count()).max().unwrap_or(0)
}

fn lay_out(
    painter: Painter,
    shape: &[Column],
    rows: &[Vec<Cell>],
    kept: &[usize],
    widths: &[usize],
) -> String {
    let aligns: Vec<Align> = kept.iter().map(|&at| shape[at].align).collect();
    let cut_row = |row: &Vec<Cell>| -> Vec<Cell> {
        let cell = |&at: &usize| {
            row.get(at)
                .map_or_else(|| Cell::plain(""), |cell| Cell(cut(&cell.0, widths[at]), cell.1))
        };
        kept.iter().map(cell).collect()
    };
    let rows: Vec<_> = rows.iter().map(cut_row).collect();
    columns(painter, &aligns, &rows)
}

/// The text, or its beginning and `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect::<String>()
}

/// `label` and `text`, which goes on in further lines of at most `width` characters below itself.
/// Words are not divided, so that paths can be copied.
pub(super) fn paragraph(label: &str, label_width: usize, text: &str, width: Option<usize>) -> String {
    let mut out = String::new();
    let mut line = format!("{label:<label_width$}");
    let mut has_word = false;
    for word in text.split(' ') {
        let len = line.chars().count() + usize::from(has_word) + word.chars().count();
        if has_word && width.is_some_and(|width| len > width) {
            out.push_str(&line);
            out.push('\n');
            line = " ".repeat(label_width);
            has_word = false;
        }
        if has_word {
            line.push(' ');
        }
        line.push_str(word);
        has_word = true;
    }
    out + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [Column; 3] = [
        Column {
            heading: "ID",
            align: Align::Right,
            width_min: 2,
            expendable: 0,
        },
        Column {
            heading: "NAME",
            align: Align::Left,
            width_min: 6,
            expendable: 0,
        },
        Column {
            heading: "HELD BY",
            align: Align::Left,
            width_min: 7,
            expendable: 1,
        },
    ];

    #[track_caller]
    fn check(width: Option<usize>, expected: &str) {
        let row = |cells: [&str; 3]| cells.map(Cell::plain).to_vec();
        let rows = [row(["7", "weir_tcx_ingress", "weir[1234]"]), row(["12", "x", ""])];
        let found = table(Painter::PLAIN, &SHAPE, &rows, width);
        assert_eq!(found, expected);
        if let Some(width) = width {
            assert!(found.lines().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn columns_shrink_and_then_go() {
        let whole = "ID  NAME              HELD BY\n 7  weir_tcx_ingress  weir[1234]\n12  x\n";
        check(None, whole);
        check(Some(32), whole);
        check(
            Some(24),
            "ID  NAME       HELD BY\n 7  weir_tcx…  weir[123…\n12  x\n",
        );
        check(Some(18), "ID  NAME\n 7  weir_tcx_ingr…\n12  x\n");
        check(Some(10), "ID  NAME\n 7  weir_…\n12  x\n");
        check(Some(6), "ID  N…\n 7  w…\n12  x\n");
    }

    #[test]
    fn paragraphs_keep_their_words() {
        let check =
            |width, expected: &str| assert_eq!(paragraph("maps", 6, "a bc /sys/fs/bpf d", width), expected);
        check(None, "maps  a bc /sys/fs/bpf d\n");
        check(Some(12), "maps  a bc\n      /sys/fs/bpf\n      d\n");
        assert_eq!(paragraph("pins", 6, "", Some(80)), "pins\n");
    }
}
