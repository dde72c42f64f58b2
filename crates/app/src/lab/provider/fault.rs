//! Trouble on request: by the model's name, which passes through any gateway, and for the whole provider.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest wait that a name may ask for.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(600);
const PREFIX: &str = "sim-";

/// What a model's name asks for, such as `sim-slow-200+sim-cut-3`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) status: Option<u16>,
    /// Before the first byte.
    pub(crate) slow: Duration,
    /// Between chunks.
    pub(crate) drip: Duration,
    /// The connection is cut after so many chunks; 0: before the head.
    pub(crate) cut: Option<usize>,
    pub(crate) error_after: Option<usize>,
    pub(crate) garbage: bool,
    pub(crate) bad_json: bool,
    pub(crate) hang: bool,
    pub(crate) oversize: bool,
    /// Comment lines between the events of a stream, as some providers send while they wait.
    pub(crate) comments: bool,
    /// Of a hundred calls, how many the trouble befalls; without other trouble they get a 500.
    pub(crate) flaky_percent: Option<u8>,
    pub(crate) tokens: Option<u64>,
}

impl Trouble {
    /// `Err` names the part of a `sim-` name that is not known.
    pub(crate) fn of(model: &str) -> Result<Trouble, String> {
        let mut trouble = Trouble::default();
        // A name may carry a publisher or a region before: `openai/sim-429`, `us.sim-429`.
        let name = model.rsplit(['/', '.']).next().unwrap_or(model);
        if !name.starts_with(PREFIX) {
            return Ok(trouble);
        }
        for part in name.split('+') {
            let part = part.strip_prefix(PREFIX).unwrap_or(part);
            trouble.add(part).ok_or_else(|| part.to_owned())?;
        }
        Ok(trouble)
    }

    fn add(&mut self, part: &str) -> Option<()> {
        let wait = |text: &str| {
            text.parse()
                .ok()
                .map(Duration::from_millis)
                .map(|wait| wait.min(WAIT_MAX))
        };
        if let Some(ms) = part.strip_prefix("slow-") {
            self.slow = wait(ms)?;
        } else if let Some(ms) = part.strip_prefix("drip-") {
            self.drip = wait(ms)?;
        } else if let Some(chunks) = part.strip_prefix("cut-") {
            self.cut = Some(chunks.parse().ok()?);
        } else if let Some(chunks) = part.strip_prefix("error-in-stream-") {
            self.error_after = Some(chunks.parse().ok()?);
        } else if let Some(percent) = part.strip_prefix("flaky-") {
            self.flaky_percent = Some(percent.parse().ok().filter(|percent| *percent <= 100)?);
        } else if let Some(tokens) = part.strip_prefix("tokens-") {
            self.tokens = Some(tokens.parse().ok()?);
        } else {
            match part {
                "garbage" => self.garbage = true,
                "bad-json" => self.bad_json = true,
                "hang" => self.hang = true,
                "oversize" => self.oversize = true,
                "comments" => self.comments = true,
                "model" | "mini" | "large" => {}
                status => {
                    self.status = Some(status.parse().ok().filter(|status| (400..600).contains(status))?);
                }
            }
        }
        Some(())
    }

    /// Whether nothing but flakiness was asked for.
    pub(crate) fn is_only_flaky(&self) -> bool {
        let calm = Trouble {
            flaky_percent: self.flaky_percent,
            ..self.clone().calm()
        };
        *self == calm
    }

    /// What is left when a flaky model is well this time.
    pub(crate) fn calm(self) -> Trouble {
        Trouble {
            tokens: self.tokens,
            drip: self.drip,
            comments: self.comments,
            ..Trouble::default()
        }
    }
}

/// `PUT /sim/fault`: trouble for every call, until changed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fault {
    /// Every connection is cut before an answer.
    pub(crate) down: bool,
    /// Calls get this status.
    pub(crate) status: Option<u16>,
    /// Of a hundred calls, how many get the status; all when absent.
    pub(crate) percent: Option<u8>,
    /// Every call waits.
    pub(crate) delay_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::Trouble;
    use std::time::Duration;

    #[test]
    fn names_of_models_ask_for_trouble() {
        let check = |model: &str, expected: Result<Trouble, &str>| {
            assert_eq!(Trouble::of(model), expected.map_err(str::to_owned), "{model}");
        };
        let well = Trouble::default;
        check("gpt-4o-mini", Ok(well()));
        check("sim-model", Ok(well()));
        check(
            "openai/sim-429",
            Ok(Trouble {
                status: Some(429),
                ..well()
            }),
        );
        check(
            "sim-slow-200+sim-cut-3+drip-5",
            Ok(Trouble {
                slow: Duration::from_millis(200),
                drip: Duration::from_millis(5),
                cut: Some(3),
                ..well()
            }),
        );
        check("sim-999", Err("999"));
        check("sim-flaky-101", Err("flaky-101"));
        check("sim-what", Err("what"));
    }
}
