//! What is measured.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use agent::sys;
use agent::trial::{Trial, UNLIMITED};
use anyhow::Context as _;
use wire::rows::{Settings, budget};
use wire::{FlowKey, FlowRow};

use super::frames::{self, Frame};
use super::xdp_filter::{self, XdpFilter};

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// Nanoseconds above the empty program.
    OverEmpty(f64),
    /// Times xdp-filter's pass path.
    OfPass(f64),
    None,
}

/// One program on one frame.
pub(super) struct Case<'a> {
    pub(super) name: &'static str,
    pub(super) program: BorrowedFd<'a>,
    pub(super) frame: Frame,
    pub(super) expected_action: u32,
    pub(super) bar: Bar,
    /// Runs in a round, at most.
    pub(super) repeat: u32,
    /// A flow table to empty before each round.
    clears: Option<BorrowedFd<'a>>,
}

impl Case<'_> {
    /// Brings the maps to where the case begins.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        let Some(flows) = self.clears else {
            return Ok(());
        };
        let mut keys = Vec::new();
        sys::for_each::<FlowKey, FlowRow>(flows, |key, _| keys.push(*key))
            .context("cannot read flow rows")?;
        for key in keys {
            sys::delete(flows, &key).context("cannot remove a flow row")?;
        }
        Ok(())
    }
}

/// Rows of the table that first packets fill; also the most of them in a round.
const FLOW_ROWS: u32 = 131_072;
const FIRST_PACKETS: u32 = 50_000;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// TCX_NEXT, as an unsigned number.
const TCX_NEXT: u32 = u32::MAX;

/// What a CPU of two may admit in a window of 128 ms by the agent's defaults.
const DEFAULTS: Settings = {
    let mut per_window = [0; budget::COUNT];
    per_window[budget::ATTEMPT] = 640;
    per_window[budget::HANDSHAKE] = 3_200;
    per_window[budget::FIRST_PACKET] = 1_280;
    per_window[budget::SAMPLE] = 1_280;
    per_window[budget::AGGREGATE] = 64;
    Settings {
        per_window,
        samples_per_direction: 0,
        hash_keys: [0; 14],
    }
};

/// The loaded programs. Floods need a harness of their own each: it has one next program.
pub(super) struct Setup {
    bench: Trial,
    /// With the budgets of a running Weir, for established flows and floods.
    weir: Trial,
    flood: Trial,
    /// Without budgets, for rows of new flows.
    unlimited: Trial,
    first: Trial,
    pass: Result<XdpFilter, String>,
    deny: Option<XdpFilter>,
}

const XDP: &str = "weir_xdp";
const TCX: &str = "weir_ingress";

impl Setup {
    pub(super) fn load() -> anyhow::Result<Self> {
        let bench = Trial::load_bench(&[
            "bench_empty",
            "bench_parse",
            "bench_flood_base",
            "bench_stream_base",
        ])?;
        let weir = Trial::load_weir(&[XDP, TCX], FLOW_ROWS, &DEFAULTS)?;
        let flood = Trial::load_bench(&["bench_flood", "bench_stream"])?;
        hand_on(&flood, &weir)?;
        let unlimited = Trial::load_weir(&[XDP], FLOW_ROWS, &UNLIMITED)?;
        let first = Trial::load_bench(&["bench_flood"])?;
        hand_on(&first, &unlimited)?;
        let pass = xdp_filter::load(None).map_err(|error| format!("{error:#}"));
        let deny = match &pass {
            Ok(_) => Some(xdp_filter::load(Some([192, 0, 2, 1]))?),
            Err(_) => None,
        };
        Ok(Self {
            bench,
            weir,
            flood,
            unlimited,
            first,
            pass,
            deny,
        })
    }

    /// Why there are no ratios to xdp-filter.
    pub(super) fn pass_missing(&self) -> Option<&str> {
        self.pass.as_ref().err().map(String::as_str)
    }

    pub(super) fn cases(&self) -> anyhow::Result<Vec<Case<'_>>> {
        let mut cases = vec![
            case(
                EMPTY,
                &self.bench,
                "bench_empty",
                frames::ip4_tcp_data(),
                Bar::None,
            )?,
            case(
                "random source alone",
                &self.bench,
                "bench_flood_base",
                frames::ip4_tcp_syn(),
                Bar::None,
            )?,
            case(
                "next sequence number alone",
                &self.bench,
                "bench_stream_base",
                frames::ip4_tcp_data(),
                Bar::None,
            )?,
        ];
        if let Ok(pass) = &self.pass {
            cases.push(case(
                PASS,
                &pass.trial,
                pass.program,
                frames::ip4_tcp_data(),
                Bar::None,
            )?);
        }
        if let Some(deny) = &self.deny {
            let deny = case(DENY, &deny.trial, deny.program, frames::ip4_tcp_data(), Bar::None)?;
            cases.push(Case {
                expected_action: XDP_DROP,
                ..deny
            });
        }
        let parsed = [
            ("parse: IPv4 TCP", frames::ip4_tcp_data()),
            ("parse: IPv4 UDP", frames::ip4_udp()),
            ("parse: IPv6 TCP", frames::ip6_tcp_data()),
            (
                "parse: VLAN, IPv6, two extensions, TCP",
                frames::vlan_ip6_extensions(),
            ),
            ("parse: VXLAN, outer headers", frames::vxlan()),
        ];
        for (name, frame) in parsed {
            cases.push(case(
                name,
                &self.bench,
                "bench_parse",
                frame,
                Bar::OverEmpty(8.0),
            )?);
        }
        cases.extend([
            case(
                "established: TCP stream, XDP",
                &self.flood,
                "bench_stream",
                frames::ip4_tcp_data(),
                Bar::OfPass(0.8),
            )?,
            case(
                "established: TCP ACK, XDP",
                &self.weir,
                XDP,
                frames::ip4_tcp_ack(),
                Bar::OfPass(0.8),
            )?,
            case(
                "established: UDP, XDP",
                &self.weir,
                XDP,
                frames::ip4_udp(),
                Bar::OfPass(0.8),
            )?,
            case(
                "established: IPv6 TCP ACK, XDP",
                &self.weir,
                XDP,
                frames::ip6_tcp_ack(),
                Bar::OfPass(0.8),
            )?,
            case(
                "established: VXLAN, both flows, XDP",
                &self.weir,
                XDP,
                frames::vxlan(),
                Bar::None,
            )?,
            case(
                "established: TCP ACK, TCX",
                &self.weir,
                TCX,
                frames::ip4_tcp_ack(),
                Bar::None,
            )?,
        ]);
        let first = case(
            "first packet: UDP, row made, XDP",
            &self.first,
            "bench_flood",
            frames::ip4_udp(),
            Bar::None,
        )?;
        cases.push(Case {
            repeat: FIRST_PACKETS,
            clears: Some(self.unlimited.map("FLOWS")?),
            ..first
        });
        cases.extend([
            case(
                "flood: TCP SYN, random source, XDP",
                &self.flood,
                "bench_flood",
                frames::ip4_tcp_syn(),
                Bar::OfPass(1.75),
            )?,
            case(
                "flood: UDP, random source, XDP",
                &self.flood,
                "bench_flood",
                frames::ip4_udp(),
                Bar::OfPass(1.75),
            )?,
        ]);
        Ok(cases)
    }
}

/// Names of the cases that others are compared with.
pub(super) const EMPTY: &str = "empty program";
pub(super) const PASS: &str = "xdp-filter, pass";
pub(super) const DENY: &str = "xdp-filter, IPv4 source denied";

fn case<'a>(
    name: &'static str,
    trial: &'a Trial,
    program: &str,
    frame: Frame,
    bar: Bar,
) -> anyhow::Result<Case<'a>> {
    Ok(Case {
        name,
        program: trial.program(program)?,
        frame,
        expected_action: if program == TCX { TCX_NEXT } else { XDP_PASS },
        bar,
        repeat: u32::MAX,
        clears: None,
    })
}

/// Makes `harness` tail-call `target`'s XDP program.
fn hand_on(harness: &Trial, target: &Trial) -> anyhow::Result<()> {
    let program = target.program(XDP)?.as_raw_fd() as u32;
    harness.set("NEXT", &0u32, &program)?;
    Ok(())
}
