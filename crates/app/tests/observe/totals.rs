//! What Weir counted in all, beside what the kernel counted: not one packet may be missing.

use std::net::IpAddr;

use serde_json::Value;

use crate::lab::{Counted, Lab};
use crate::weir::Weir;
use crate::{number, text, wait_for};

/// The kernel's counters when Weir began to count.
pub(crate) struct Start {
    counted: Counted,
    /// Bytes of each packet that the interface does not count on arrival.
    pub(crate) rx_uncounted: u64,
}

impl Start {
    /// Starts Weir on a lab where nothing moves.
    #[track_caller]
    pub(crate) fn weir(lab: &Lab, options: &[&str]) -> (Weir, Start) {
        let before = lab.counted();
        let weir = Weir::on(lab, options);
        let ready = lab.counted();
        assert_eq!(
            before, ready,
            "packets passed while Weir started: nobody knows who counted them"
        );
        let start = Start {
            counted: before,
            rx_uncounted: 0,
        };
        (weir, start)
    }

    /// What the kernel has counted since.
    pub(crate) fn since(&self, lab: &Lab) -> Counted {
        let now = lab.counted();
        Counted {
            rx_packets: now.rx_packets - self.counted.rx_packets,
            rx_bytes: now.rx_bytes - self.counted.rx_bytes,
            tx_packets: now.tx_packets - self.counted.tx_packets,
            tx_bytes: now.tx_bytes - self.counted.tx_bytes,
            tx_dropped: now.tx_dropped - self.counted.tx_dropped,
        }
    }
}

/// Packets and bytes: in, out.
pub(crate) type Both = [(u64, u64); 2];

/// Waits until Weir and the interface have counted the same packets and bytes, and every packet is
/// in a flow, an aggregate or a reject; returns the status and the flows that say so.
#[track_caller]
pub(crate) fn wait_until_equal(lab: &Lab, weir: &Weir, start: &Start) -> (Value, Vec<Value>) {
    wait_for("flows and other counters make up the interface's totals", || {
        let status = equal(lab, weir, start)?;
        let flows = weir.flows("");
        let placed = placed(weir, &status, &flows);
        let packets = observed(&status).map(|(packets, _)| packets);
        if placed == packets {
            Ok((status, flows))
        } else {
            Err(format!("status {packets:?}, placed {placed:?}: {status}"))
        }
    })
}

/// As [`wait_until_equal`], for more flows than fit on a page: only the totals are compared.
#[track_caller]
pub(crate) fn wait_until_totals_are_equal(lab: &Lab, weir: &Weir, start: &Start) -> Value {
    wait_for("Weir's totals are the interface's", || equal(lab, weir, start))
}

/// The status, if it has what the interface has counted.
fn equal(lab: &Lab, weir: &Weir, start: &Start) -> Result<Value, String> {
    let before = start.since(lab);
    let status = weir.status();
    if start.since(lab) != before {
        return Err("packets still come".to_owned());
    }
    check_interface(observed(&status), &before, start.rx_uncounted)?;
    match number(&status, "/unaccounted_packets") {
        0 => Ok(status),
        missing => Err(format!("{missing} packets in no counter: {status}")),
    }
}

/// Weir sees what leaves before the device refuses it: the interface then counts a drop, and no
/// bytes.
fn check_interface(seen: Both, interface: &Counted, rx_uncounted: u64) -> Result<(), String> {
    let [rx, tx] = seen;
    let is_tx_equal = if interface.tx_dropped == 0 {
        tx == (interface.tx_packets, interface.tx_bytes)
    } else {
        tx.0 == interface.tx_packets + interface.tx_dropped && tx.1 > interface.tx_bytes
    };
    let rx_bytes = interface.rx_bytes + rx_uncounted * interface.rx_packets;
    if rx == (interface.rx_packets, rx_bytes) && is_tx_equal {
        Ok(())
    } else {
        Err(format!("{interface:?}, status {seen:?}"))
    }
}

/// What the status says of the interface.
pub(crate) fn observed(status: &Value) -> Both {
    ["rx", "tx"].map(|way| {
        let field = |name: &str| number(status, &format!("/interfaces/0/{way}/{name}"));
        (field("packets"), field("bytes"))
    })
}

/// Packets in flows, in aggregates that no flow took over, and in rejects: in, out.
fn placed(weir: &Weir, status: &Value, flows: &[Value]) -> [u64; 2] {
    let mut sums = ["rx", "tx"].map(|way| {
        let rejects = status.pointer(&format!("/interfaces/0/{way}/rejects"));
        let rejects = rejects.and_then(Value::as_object).expect("rejects");
        rejects.values().filter_map(Value::as_u64).sum::<u64>()
    });
    for flow in flows.iter().filter(|flow| flow.get("tunnel").is_none()) {
        let to_server = usize::from(is_servers(text(flow, "/src")));
        sums[to_server] += number(flow, "/packets_toserver");
        sums[1 - to_server] += number(flow, "/packets_toclient");
    }
    for row in weir.aggregates() {
        let to_service = text(&row, "/direction") == "to";
        let goes_out = is_servers(text(&row, "/addr")) != to_service;
        sums[usize::from(goes_out)] += number(&row, "/packets") - number(&row, "/adopted_packets");
    }
    sums
}

/// Whether an address is the lab's server's, its link-local and unspecified one too.
fn is_servers(addr: &str) -> bool {
    let addr: IpAddr = addr.parse().expect("an address");
    let own: [IpAddr; 4] =
        ["10.77.0.1", "fd77::1", "fe80::77:ff:fe00:1", "::"].map(|own| own.parse().expect("an address"));
    own.contains(&addr)
}
