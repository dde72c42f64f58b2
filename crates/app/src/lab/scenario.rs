//! The scenarios, as a table.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// No scenario sends more raw packets than this, whatever is asked for.
pub(crate) const RAW_PACKETS_MAX: u64 = 2_000_000;
/// No scenario runs longer than this.
pub(crate) const SECONDS_MAX: u32 = 60;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    Normal,
    SynFlood,
    UdpFlood,
    IcmpFlood,
    PortScan,
    BruteForce,
    SlowClient,
}

/// Who makes a scenario's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// One program in each client's namespace.
    EveryClient,
    /// One program in the attacker's namespace.
    Attacker,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub scenario: Scenario,
    /// One sentence: what it shows.
    pub shows: &'static str,
    pub origin: Origin,
    /// How many a program makes of what `counted` names: `[low, medium, high]`; for floods, a second.
    pub amount: [u32; 3],
    pub counted: &'static str,
}

/// Every scenario, in the order they are listed.
pub(crate) const SCENARIOS: &[Facts] = &[
    Facts {
        scenario: Scenario::Normal,
        shows: "Clients browse, resolve names, try SSH, echo and copy bulk data; every connection ends well.",
        origin: Origin::EveryClient,
        amount: [24, 100, 500],
        counted: "connections from each client",
    },
    Facts {
        scenario: Scenario::SynFlood,
        shows: "TCP SYNs from random, spoofed sources to the web server: half-open connections and no rows to keep.",
        origin: Origin::Attacker,
        amount: [1_000, 10_000, 50_000],
        counted: "packets a second",
    },
    Facts {
        scenario: Scenario::UdpFlood,
        shows: "UDP from random, spoofed sources to a port where nobody listens.",
        origin: Origin::Attacker,
        amount: [1_000, 10_000, 50_000],
        counted: "packets a second",
    },
    Facts {
        scenario: Scenario::IcmpFlood,
        shows: "ICMP echo requests from random, spoofed sources.",
        origin: Origin::Attacker,
        amount: [1_000, 10_000, 50_000],
        counted: "packets a second",
    },
    Facts {
        scenario: Scenario::PortScan,
        shows: "The attacker probes the server's TCP ports: half with whole connections, half with bare SYNs.",
        origin: Origin::Attacker,
        amount: [200, 1_000, 10_000],
        counted: "ports",
    },
    Facts {
        scenario: Scenario::BruteForce,
        shows: "The attacker tries passwords over SSH and on the web login; all are refused.",
        origin: Origin::Attacker,
        amount: [40, 200, 1_000],
        counted: "attempts",
    },
    Facts {
        scenario: Scenario::SlowClient,
        shows: "The attacker holds connections open: headers in drips (slowloris) and answers read in sips (zero windows).",
        origin: Origin::Attacker,
        amount: [10, 50, 200],
        counted: "connections",
    },
];

impl Scenario {
    pub(crate) fn facts(self) -> &'static Facts {
        SCENARIOS
            .iter()
            .find(|facts| facts.scenario == self)
            .unwrap_or(&SCENARIOS[0])
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Normal => "normal",
            Scenario::SynFlood => "syn-flood",
            Scenario::UdpFlood => "udp-flood",
            Scenario::IcmpFlood => "icmp-flood",
            Scenario::PortScan => "port-scan",
            Scenario::BruteForce => "brute-force",
            Scenario::SlowClient => "slow-client",
        }
    }

    pub(crate) fn amount(self, intensity: Intensity) -> u32 {
        self.facts().amount[intensity as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Intensity {
    Low,
    Medium,
    High,
}

impl Intensity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Intensity::Low => "low",
            Intensity::Medium => "medium",
            Intensity::High => "high",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_its_row_and_its_name() {
        for scenario in Scenario::value_variants() {
            assert_eq!(scenario.facts().scenario, *scenario);
            let on_command_line = scenario.to_possible_value().expect("a value");
            assert_eq!(on_command_line.get_name(), scenario.name());
            let amount = scenario.facts().amount;
            assert!(amount[0] < amount[1] && amount[1] < amount[2]);
        }
    }
}
