//! Prompt caching: a marked prefix is written the first time and read from then on.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::ask::CacheMark;
use super::tokens::Usage;
use crate::lab::random::Random;

/// Most prefixes remembered; the oldest goes.
const PREFIXES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct PromptCache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    set: HashSet<u64>,
    order: VecDeque<u64>,
}

impl PromptCache {
    /// Moves the marked part of a prompt to the buckets of reading and writing.
    pub(crate) fn apply(&self, model: &str, marks: &[CacheMark], prompt: &mut Usage) {
        let Some(last) = marks.last() else {
            return;
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |mark: &CacheMark| Random::new(mark.prefix, model).next_u64();
        let hit = marks.iter().rposition(|mark| known.set.contains(&key(mark)));
        let mut before = hit.map_or(0, |idx| marks[idx].tokens);
        prompt.cache_read = before;
        for mark in &marks[hit.map_or(0, |idx| idx + 1)..] {
            let written = mark.tokens.saturating_sub(before);
            before = mark.tokens;
            if mark.one_hour {
                prompt.cache_write_1h += written;
            } else {
                prompt.cache_write_5m += written;
            }
            known.add(key(mark));
        }
        prompt.input = prompt.uncached().saturating_sub(last.tokens);
        (prompt.image, prompt.audio) = (0, 0);
    }

    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }
}

impl Known {
    fn add(&mut self, key: u64) {
        if !self.set.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > PREFIXES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}
