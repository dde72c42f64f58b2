//! Figures of repeated measurements.

use serde::Serialize;

/// Median and spread of what was measured in several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` if nothing was measured.
    pub(super) fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let median = if samples.len().is_multiple_of(2) {
            (samples.get(middle.wrapping_sub(1))? + samples[middle]) / 2.0
        } else {
            samples[middle]
        };
        Some(Self {
            median,
            min: *samples.first()?,
            max: *samples.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let check = |samples: &[f64], expected: Option<(f64, f64, f64)>| {
            let found = Spread::of(samples.to_vec()).map(|found| (found.median, found.min, found.max));
            assert_eq!(found, expected);
        };
        check(&[], None);
        check(&[3.0], Some((3.0, 3.0, 3.0)));
        check(&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0)));
        check(&[4.0, 1.0, 2.0, 9.0], Some((3.0, 1.0, 9.0)));
    }
}
