//! Which targets a call tries, and in what order.

use super::pool::weighted;
use crate::live::Live;
use policy::gateway::document::Strategy;
use policy::gateway::snapshot::{Model, Target};

/// With least latency one call in so many goes to any target.
const RENEWAL: u64 = 32;

/// The targets of a model in the order to try them; `chance` is any number.
///
/// Priorities come before the strategy. A target whose breaker is open goes last, and is still tried if
/// nothing else is left.
pub(super) fn order<'a>(model: &'a Model, live: &Live, chance: u64, now_ms: u64) -> Vec<&'a Target> {
    if let [only] = model.targets.as_slice() {
        return vec![only];
    }
    let state = |target: &Target| live.providers.get(&target.provider.name);
    let mut out = Vec::with_capacity(model.targets.len());
    for group in model.targets.chunk_by(|a, b| a.priority == b.priority) {
        let mut group: Vec<&Target> = group.iter().collect();
        match model.strategy {
            Strategy::Fallback => {}
            Strategy::Weighted => {
                // The others follow as they would be drawn next.
                let mut chance = chance;
                for start in 0..group.len() {
                    let picked = weighted(group[start..].iter().map(|target| target.weight), chance);
                    group[start..=start + picked].rotate_right(1);
                    chance = chance.rotate_right(17);
                }
                // Weight 0: only where nothing else is left.
                group.sort_by_key(|target| target.weight == 0);
            }
            Strategy::LeastLatency => {
                group.sort_by_key(|target| state(target).map_or(0, |state| state.latency_us()));
                // Now and then another one, so that an old figure is renewed.
                if chance.is_multiple_of(RENEWAL) {
                    let n_others = group.len().saturating_sub(1).max(1) as u64;
                    let other = 1 + (chance / RENEWAL % n_others) as usize;
                    if let Some(until_other) = group.get_mut(..=other) {
                        until_other.rotate_right(1);
                    }
                }
            }
        }
        out.extend(group);
    }
    out.sort_by_key(|target| state(target).is_some_and(|state| state.is_open(now_ms)));
    out
}
