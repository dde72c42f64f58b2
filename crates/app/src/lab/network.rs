//! Sets a lab's network up and takes it down.

use std::fmt::{self, Write as _};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, Serialize};

use super::layout::{BRIDGE, HOST_INTERFACE, Host, Lab};
use super::namespace::{self, Lifetime, NETNS_DIRECTORY, Offload};
use super::state::{self, Inhabitants, LOCK_FILES, Lock, ProcessId, STATE_FILES, State};
use super::xdp_pass;

/// How a lab is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpOptions {
    pub clients: u8,
    /// Whether the hosts' interfaces may segment and merge (faster), or carry each frame as it is on
    /// the wire (exact packet counts).
    pub offload: bool,
    /// Whether the bridge's end of the server's cable has an XDP program, without which frames that
    /// one on the server sends back never arrive. It costs TCP throughput.
    pub xdp_tx: bool,
}

impl fmt::Display for UpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on| if on { "on" } else { "off" };
        write!(
            f,
            "{} clients, segmentation offload {}, way back for XDP_TX {}",
            self.clients,
            word(self.offload),
            word(self.xdp_tx)
        )
    }
}

/// What `up` found or made.
#[derive(Debug)]
pub(crate) enum Up {
    Made(State),
    Already(State),
}

/// Makes the lab unless it is up. What a failed or crashed earlier attempt left is removed first.
pub(crate) fn up(lab: &Lab, options: UpOptions) -> Result<Up> {
    let _lock = Lock::change(lab)?;
    if let Some(state) = running(lab) {
        return Ok(Up::Already(state));
    }
    remove(lab)?;
    let made = make(lab, options);
    if made.is_err() {
        // The first error is the one to tell.
        let _ = remove(lab).and_then(|_| remove_files(lab, LOCK_FILES));
    }
    made.map(Up::Made)
}

/// The state of a lab that is complete: every namespace is there and the servers run.
pub(crate) fn running(lab: &Lab) -> Option<State> {
    let state = State::load(lab)?;
    let present = present_namespaces(lab);
    let complete = state.namespaces.iter().all(|name| present.contains(name))
        && state
            .processes
            .iter()
            .any(|process| process.role == "serve" && process.is_alive());
    complete.then_some(state)
}

fn make(lab: &Lab, options: UpOptions) -> Result<State> {
    let hosts = Host::observed(options.clients);
    let net = lab.namespace(Host::Net);
    let mut namespaces = vec![net.clone()];
    namespaces.extend(hosts.iter().map(|host| lab.namespace(*host)));
    let mut state = State {
        namespaces,
        options,
        processes: Vec::new(),
    };
    // Before anything is made, so that a crash from here on leaves a record.
    state.save(lab)?;

    let mut script = String::new();
    for name in &state.namespaces {
        writeln!(script, "netns add {name}")?;
    }
    ip(None, &script)?;
    // Before there are interfaces, which take the defaults as they are when they are made.
    for name in &state.namespaces {
        namespace::inside(name, quiet_defaults)?;
    }
    script.clear();
    for host in &hosts {
        let name = lab.namespace(*host);
        let port = bridge_port(*host);
        let mac = show_mac(host.mac());
        writeln!(
            script,
            "link add name {port} netns {net} type veth peer name {HOST_INTERFACE} address {mac} netns {name}"
        )?;
    }
    ip(None, &script)?;
    ip(Some(&net), &net_script(&hosts)?)?;
    for host in &hosts {
        ip(Some(&lab.namespace(*host)), &host_script(*host)?)?;
    }
    set_offloads(lab, &hosts, options.offload)?;

    let way_back = options
        .xdp_tx
        .then(|| namespace::inside(&net, || xdp_pass::attach(&bridge_port(Host::Server))))
        .transpose()?;
    let server = start_servers(lab, way_back.as_ref())?;
    state.processes.push(server);
    state.save(lab)?;
    wait_for_silence(lab, &hosts)?;
    Ok(state)
}

/// Waits until every host has reported its multicast memberships, which IPv6 does twice by default
/// (RFC 3810 section 9.14): those frames are to come before anybody counts.
fn wait_for_silence(lab: &Lab, hosts: &[Host]) -> Result<()> {
    const REPORTS: u64 = 2;
    let deadline = Instant::now() + Duration::from_millis(500);
    for host in hosts {
        let name = lab.namespace(*host);
        while namespace::counters(&name, HOST_INTERFACE)?.tx_packets < REPORTS && Instant::now() < deadline {
            sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// The end of a host's cable at the bridge: `to-server`, `to-client1`, …
fn bridge_port(host: Host) -> String {
    format!("to-{host}")
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn net_script(hosts: &[Host]) -> Result<String, fmt::Error> {
    let mut script = String::new();
    // Snooping off: neighbour discovery is multicast and must not wait for a querier.
    writeln!(
        script,
        "link add name {BRIDGE} address {} type bridge forward_delay 0 mcast_snooping 0",
        show_mac(Host::Net.mac())
    )?;
    writeln!(script, "link set lo up")?;
    writeln!(script, "link set {BRIDGE} addrgenmode none")?;
    addresses(&mut script, Host::Net, BRIDGE)?;
    for host in hosts {
        let port = bridge_port(*host);
        writeln!(script, "link set {port} addrgenmode none")?;
        writeln!(script, "link set {port} master {BRIDGE} up")?;
    }
    writeln!(script, "link set {BRIDGE} up")?;
    writeln!(script, "route add blackhole default")?;
    writeln!(script, "route add blackhole ::/0")?;
    Ok(script)
}

fn host_script(host: Host) -> Result<String, fmt::Error> {
    let mut script = String::new();
    writeln!(script, "link set lo up")?;
    // No link-local address: nothing but the programs' own traffic (and ARP, ND) crosses the wire.
    writeln!(script, "link set {HOST_INTERFACE} addrgenmode none")?;
    addresses(&mut script, host, HOST_INTERFACE)?;
    writeln!(script, "link set {HOST_INTERFACE} up")?;
    writeln!(script, "route add default via {}", Host::Net.ipv4())?;
    writeln!(
        script,
        "route add ::/0 via {} dev {HOST_INTERFACE}",
        Host::Net.ipv6()
    )?;
    Ok(script)
}

fn addresses(script: &mut String, host: Host, interface: &str) -> fmt::Result {
    writeln!(script, "addr add {}/24 dev {interface}", host.ipv4())?;
    writeln!(script, "addr add {}/64 dev {interface} nodad", host.ipv6())
}

/// Settings of a namespace before its interfaces come up. What a kernel does not have is skipped.
fn quiet_defaults() -> Result<()> {
    for (name, value) in [
        ("ipv6/conf/all/accept_ra", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv4/ip_forward", "0"),
        // Multicast memberships are told at once instead of within seconds, so that afterwards
        // nothing but the programs' packets is counted.
        ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
        // Hosts that share a machine with a strict default would drop spoofed sources unseen.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ] {
        let _ = std::fs::write(format!("/proc/sys/net/{name}"), value);
    }
    Ok(())
}

/// With offload, receive merging is on at both ends of every cable, as on a real card. Without offload
/// everything is off at both ends, so that each frame crosses, and is counted, as it is on a wire: with
/// NAPI at one end, veth counts some frames without their Ethernet header.
fn set_offloads(lab: &Lab, hosts: &[Host], offload: bool) -> Result<()> {
    let set = |interface: &str| {
        if offload {
            return namespace::set_offload(interface, Offload::GenericReceive, true);
        }
        [
            Offload::TcpSegmentation,
            Offload::GenericSegmentation,
            Offload::GenericReceive,
            Offload::TransmitChecksum,
        ]
        .into_iter()
        .try_for_each(|each| namespace::set_offload(interface, each, false))
    };
    namespace::inside(&lab.namespace(Host::Net), || {
        hosts.iter().try_for_each(|host| set(&bridge_port(*host)))
    })?;
    hosts
        .iter()
        .try_for_each(|host| namespace::inside(&lab.namespace(*host), || set(HOST_INTERFACE)))
}

/// Runs `ip -batch` on a script, in a namespace or in the caller's.
fn ip(namespace: Option<&str>, script: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `ip`: install the package iproute2")?;
    if let Some(mut input) = child.stdin.take() {
        // A closed pipe means that `ip` has failed and says why below.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().context("cannot wait for `ip`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // "Command failed -:3": the line that did not work.
    let line = said
        .rsplit("-:")
        .next()
        .and_then(|tail| tail.trim().parse::<usize>().ok())
        .and_then(|number| script.lines().nth(number.saturating_sub(1)))
        .unwrap_or("(a batch)");
    bail!(
        "`ip {line}` failed in {}: {}",
        namespace.unwrap_or("the host's namespace"),
        said.trim().lines().next().unwrap_or("no message")
    )
}

/// Starts `weir lab serve` in the server's namespace and waits until it listens. It inherits
/// `held_open`, which so lives exactly as long as the lab.
fn start_servers(lab: &Lab, held_open: Option<&OwnedFd>) -> Result<ProcessId> {
    if let Some(descriptor) = held_open {
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot hand a descriptor on")?;
    }
    let log_path = lab.runtime_file("log");
    let log =
        std::fs::File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command
        .args(["lab", "serve", "--socket"])
        .arg(lab.runtime_file("sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/");
    namespace::start_inside(&mut command, &lab.namespace(Host::Server), Lifetime::Detached)?;
    let mut child = command.spawn().context("cannot start the lab's servers")?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        let _ = child.kill();
        let _ = child.wait();
        let log = std::fs::read_to_string(&log_path).unwrap_or_default();
        bail!("the lab's servers did not start: {}", log.trim());
    }
    ProcessId::of(child.id() as i32, "serve").context("the lab's servers ended at once")
}

/// What `down` removed.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    pub namespaces: Vec<String>,
    pub processes: usize,
    /// Processes of others that still hold a removed namespace; it goes when they end.
    pub others: Vec<i32>,
}

/// Takes the lab down, whatever is left of it.
pub(crate) fn down(lab: &Lab) -> Result<Removed> {
    let _lock = Lock::change(lab)?;
    let removed = remove(lab)?;
    remove_files(lab, LOCK_FILES)?;
    Ok(removed)
}

/// Who lives in the lab's namespaces.
pub(crate) fn inhabitants(lab: &Lab) -> Inhabitants {
    let identities: Vec<_> = present_namespaces(lab)
        .iter()
        .filter_map(|name| namespace::identity(name))
        .collect();
    state::inhabitants(&identities)
}

fn remove(lab: &Lab) -> Result<Removed> {
    let namespaces = present_namespaces(lab);
    let recorded = State::load(lab).map(|state| state.processes);
    // First those on record (a `run` would start more), then whoever of ours still lives inside.
    let mut ended = recorded
        .unwrap_or_default()
        .iter()
        .filter(|process| process.pid != std::process::id() as i32)
        .filter(|process| process.end())
        .count();
    let inside = inhabitants(lab);
    ended += inside.ours.iter().filter(|process| process.end()).count();

    let mut script = String::new();
    for name in &namespaces {
        writeln!(script, "netns delete {name}")?;
    }
    if !script.is_empty() {
        ip(None, &script)?;
    }
    remove_files(lab, STATE_FILES)?;
    Ok(Removed {
        namespaces,
        processes: ended,
        others: inside.others,
    })
}

/// Removes the lab's files; those that are not there are no error.
fn remove_files(lab: &Lab, extensions: &[&str]) -> Result<()> {
    for extension in extensions {
        let path = lab.runtime_file(extension);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Namespaces of this lab that exist, by name.
pub(crate) fn present_namespaces(lab: &Lab) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NETNS_DIRECTORY) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| lab.host_of(name).is_some())
        .collect();
    names.sort();
    names
}
