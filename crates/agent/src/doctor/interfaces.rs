//! Every interface of this network namespace: what it is, who is on it, how Weir can observe it.

use std::collections::HashMap;
use std::io;

use nix::sys::socket::SockProtocol;
use serde::Serialize;
use wire::Link;

use super::sandbox::Hooks;
use super::{Check, Verdict};
use crate::interface::{self, Interface};
use crate::programs::netlink::{Netlink, attribute, u16_at, u32_at};

const GROUP: &str = "interfaces";

/// One interface.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceState {
    pub name: String,
    pub ifindex: u32,
    /// `ethernet`, `raw`, or `None` for a kind whose frames Weir does not read.
    pub link: Option<&'static str>,
    pub mtu: Option<u32>,
    pub is_up: Option<bool>,
    /// Whether its driver takes native XDP programs, as the driver itself says; `None` if nobody says.
    pub has_native_xdp: Option<bool>,
    /// Programs in the order in which packets meet them; `None` if they cannot be listed.
    pub attached: Option<Vec<AttachedProgram>>,
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachedProgram {
    pub id: u32,
    pub name: String,
    /// `tcx ingress`, `xdp native`, …
    pub hook: String,
    /// From 1, if the hook has an order.
    pub position: Option<u32>,
}

pub(super) fn examine(hooks: Hooks, checks: &mut Vec<Check>) -> Vec<InterfaceState> {
    let interfaces = match interface::list() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            let words = format!("cannot be listed: {error}");
            checks.push(Check::new(GROUP, "interfaces", Verdict::Unknown, words));
            return Vec::new();
        }
    };
    let links = link_facts().unwrap_or_default();
    let features = xdp_features();
    let mut attached = attached_programs();
    interfaces
        .iter()
        .map(|interface| {
            let facts = links.get(&interface.index).copied();
            let state = InterfaceState {
                name: interface.name.clone(),
                ifindex: interface.index,
                link: interface.link.map(link_name),
                mtu: facts.and_then(|facts| facts.mtu),
                is_up: facts.map(|facts| facts.is_up),
                has_native_xdp: features
                    .as_ref()
                    .ok()
                    .and_then(|features| features.get(&interface.index).copied()),
                attached: attached
                    .as_mut()
                    .map(|all| all.remove(&interface.index).unwrap_or_default()),
            };
            checks.push(describe(&state, interface, hooks));
            state
        })
        .collect()
}

fn link_name(link: Link) -> &'static str {
    match link {
        Link::Ethernet => "ethernet",
        _ => "raw IP",
    }
}

fn describe(state: &InterfaceState, interface: &Interface, hooks: Hooks) -> Check {
    let mut words = vec![match state.link {
        Some(link) => link.to_owned(),
        None => format!(
            "hardware type {}, whose frames Weir cannot read: it is not observed",
            interface.hardware
        ),
    }];
    words.extend(state.mtu.map(|mtu| format!("MTU {mtu}")));
    if state.is_up == Some(false) {
        words.push("down".to_owned());
    }
    let verdict = match (state.link, hooks.tcx, hooks.tc) {
        (None, ..) => Verdict::Limited,
        (_, Some(true), _) => {
            words.push("observed with TCX".to_owned());
            Verdict::Ok
        }
        (_, _, Some(true)) => {
            words.push("observed with tc".to_owned());
            Verdict::Limited
        }
        (_, Some(false), Some(false)) => {
            words.push("cannot be observed: neither TCX nor tc attach".to_owned());
            Verdict::Missing
        }
        _ => Verdict::Unknown,
    };
    words.push(
        match state.has_native_xdp {
            Some(true) => "native XDP in its driver",
            Some(false) => "no native XDP",
            None => "native XDP not told by this kernel",
        }
        .to_owned(),
    );
    words.push(match &state.attached {
        None => "programs on it not visible here".to_owned(),
        Some(programs) if programs.is_empty() => "no program on it".to_owned(),
        Some(programs) => {
            let all: Vec<_> = programs.iter().map(program_words).collect();
            format!("on it: {}", all.join(", "))
        }
    });
    Check::new(GROUP, &state.name, verdict, words.join("; "))
}

fn program_words(program: &AttachedProgram) -> String {
    let position = program
        .position
        .map_or_else(String::new, |position| format!(" {position}"));
    let name: String = program
        .name
        .chars()
        .map(|character| if character.is_control() { '?' } else { character })
        .collect();
    format!("{}{position} {name} (id {})", program.hook, program.id)
}

/// By interface of this namespace.
fn attached_programs() -> Option<HashMap<u32, Vec<AttachedProgram>>> {
    let listing = crate::programs::list().ok()?;
    let mut found: HashMap<u32, Vec<AttachedProgram>> = HashMap::new();
    for program in &listing.programs {
        for attachment in &program.attachments {
            if let (Some(ifindex), None) = (attachment.ifindex, &attachment.namespace) {
                found.entry(ifindex).or_default().push(AttachedProgram {
                    id: program.id,
                    name: program.name.clone(),
                    hook: attachment.hook.clone(),
                    position: attachment.order.map(|order| order.position),
                });
            }
        }
    }
    // A packet that comes in meets XDP, then TCX, then tc.
    let rank = |hook: &str| {
        ["xdp", "tcx ingress", "tc ingress", "tcx egress"]
            .iter()
            .position(|prefix| hook.starts_with(prefix))
            .unwrap_or(4)
    };
    for programs in found.values_mut() {
        programs.sort_by_key(|program| (rank(&program.hook), program.position, program.id));
    }
    Some(found)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LinkFacts {
    mtu: Option<u32>,
    is_up: bool,
}

const IFINFO_LEN: usize = 16;

fn link_facts() -> io::Result<HashMap<u32, LinkFacts>> {
    const RTM_NEWLINK: u16 = 16;
    const RTM_GETLINK: u16 = 18;
    let messages = Netlink::open()?.dump(RTM_GETLINK, RTM_NEWLINK, &[0; IFINFO_LEN])?;
    Ok(messages.iter().filter_map(|body| parse_link(body)).collect())
}

/// Index, MTU and whether it is up, of an interface message.
fn parse_link(body: &[u8]) -> Option<(u32, LinkFacts)> {
    const IFLA_MTU: u16 = 4;
    let attributes = body.get(IFINFO_LEN..)?;
    let facts = LinkFacts {
        mtu: attribute(attributes, IFLA_MTU).and_then(|value| u32_at(value, 0)),
        is_up: u32_at(body, 8)? & libc::IFF_UP as u32 != 0,
    };
    Some((u32_at(body, 4)?, facts))
}

/// Asks generic netlink family `netdev` (since kernel 6.3) which drivers take XDP programs.
fn xdp_features() -> io::Result<HashMap<u32, bool>> {
    const NLM_F_ACK: i32 = libc::NLM_F_ACK;
    /// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
    const CONTROLLER: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    /// `NETDEV_CMD_DEV_GET`.
    const GET_DEVICE: u8 = 1;
    let netlink = Netlink::open_protocol(SockProtocol::NetlinkGeneric)?;
    // Header of generic netlink (command, version, two bytes reserved), then one attribute.
    let mut request = vec![GET_FAMILY, 1, 0, 0];
    request.extend(11u16.to_ne_bytes());
    request.extend(FAMILY_NAME.to_ne_bytes());
    request.extend(b"netdev\0\0");
    let answers = netlink.ask(CONTROLLER, NLM_F_ACK, CONTROLLER, &request)?;
    let family = answers
        .first()
        .and_then(|body| u16_at(attribute(body.get(4..)?, FAMILY_ID)?, 0))
        .ok_or_else(|| io::Error::other("no family id"))?;
    let devices = netlink.dump(family, family, &[GET_DEVICE, 1, 0, 0])?;
    Ok(devices.iter().filter_map(|body| parse_device(body)).collect())
}

/// Index, and whether native XDP programs are taken, of a device message of family `netdev`.
fn parse_device(body: &[u8]) -> Option<(u32, bool)> {
    const IFINDEX: u16 = 1;
    const XDP_FEATURES: u16 = 3;
    /// `NETDEV_XDP_ACT_BASIC`: aborted, drop, pass and tx.
    const BASIC: u32 = 1;
    let attributes = body.get(4..)?;
    let ifindex = u32_at(attribute(attributes, IFINDEX)?, 0)?;
    // 64 bits in the byte order of the host; the bit asked for is in the low half.
    let features = attribute(attributes, XDP_FEATURES)?;
    let low_at = if cfg!(target_endian = "little") { 0 } else { 4 };
    Some((ifindex, u32_at(features, low_at)? & BASIC != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_cut_anywhere_give_less() {
        let mut link = vec![0; IFINFO_LEN];
        link[4..8].copy_from_slice(&7u32.to_ne_bytes());
        link[8..12].copy_from_slice(&1u32.to_ne_bytes());
        link.extend(attr(4, &1500u32.to_ne_bytes()));
        let whole = LinkFacts {
            mtu: Some(1500),
            is_up: true,
        };
        assert_eq!(parse_link(&link), Some((7, whole)));
        for len in 0..link.len() {
            let cut = parse_link(&link[..len]);
            assert!(cut.is_none_or(|(ifindex, facts)| ifindex == 7 && facts.mtu.is_none()));
        }
        let device = |features: u64| {
            [
                vec![1, 1, 0, 0],
                attr(1, &7u32.to_ne_bytes()),
                attr(3, &features.to_ne_bytes()),
            ]
            .concat()
        };
        assert_eq!(parse_device(&device(0x23)), Some((7, true)));
        assert_eq!(parse_device(&device(0x22)), Some((7, false)));
        for len in 0..device(1).len() {
            assert_eq!(parse_device(&device(1)[..len]), None);
        }
    }

    #[test]
    fn an_interface_in_words() {
        let check = |hardware: u16, link: Option<Link>, hooks: Hooks, verdict: Verdict, words: &str| {
            let interface = Interface {
                name: "eth0".to_owned(),
                index: 2,
                link,
                hardware,
            };
            let program = AttachedProgram {
                id: 9,
                name: "weir\x1b".to_owned(),
                hook: "tcx ingress".to_owned(),
                position: Some(1),
            };
            let state = InterfaceState {
                name: "eth0".to_owned(),
                ifindex: 2,
                link: link.map(link_name),
                mtu: Some(1500),
                is_up: Some(true),
                has_native_xdp: Some(false),
                attached: Some(vec![program]),
            };
            let found = describe(&state, &interface, hooks);
            assert_eq!((found.verdict, found.words.as_str()), (verdict, words));
        };
        let hooks = |tcx, tc| Hooks { tcx, tc };
        let end = "no native XDP; on it: tcx ingress 1 weir? (id 9)";
        check(
            1,
            Some(Link::Ethernet),
            hooks(Some(true), Some(true)),
            Verdict::Ok,
            &format!("ethernet; MTU 1500; observed with TCX; {end}"),
        );
        check(
            1,
            Some(Link::Ethernet),
            hooks(Some(false), Some(true)),
            Verdict::Limited,
            &format!("ethernet; MTU 1500; observed with tc; {end}"),
        );
        check(
            1,
            Some(Link::Ethernet),
            Hooks::default(),
            Verdict::Unknown,
            &format!("ethernet; MTU 1500; {end}"),
        );
        check(
            280,
            None,
            hooks(Some(true), Some(true)),
            Verdict::Limited,
            &format!("hardware type 280, whose frames Weir cannot read: it is not observed; MTU 1500; {end}"),
        );
    }
}
