//! `weir capture` as a whole: the real binary on a veth pair between two namespaces. Needs root.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use inspect::capfile::{Direction, Reader, Step};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const HERE: &str = "10.99.0.1";
const THERE: &str = "10.99.0.2";
const MAC_HERE: &str = "02:00:00:00:00:01";
const MAC_THERE: &str = "02:00:00:00:00:02";

/// Two namespaces joined by `v0` (here) and `v1` (there), in which nothing speaks by itself: no IPv6,
/// no ARP. Removed also when the test fails.
struct Net {
    here: String,
    there: String,
    folder: tempfile::TempDir,
}

fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("WEIR_REQUIRE_CAPS").is_none_or(|value| value != "1"),
        "WEIR_REQUIRE_CAPS=1, but this is not root"
    );
    println!("skipped: capturing needs root");
    false
}

#[track_caller]
fn sh(script: &str) {
    let status = Command::new("sh")
        .args(["-ec", script])
        .status()
        .expect("sh starts");
    assert!(status.success(), "{script}");
}

impl Net {
    /// `None` without root.
    fn new(tag: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let net = Self {
            here: format!("wcap-{tag}-{}-a", std::process::id()),
            there: format!("wcap-{tag}-{}-b", std::process::id()),
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let Self { here, there, .. } = &net;
        sh(&format!(
            "ip netns add {here}; ip netns add {there}
             for ns in {here} {there}; do
                 ip netns exec $ns sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
                 ip -n $ns link set lo up
             done
             ip -n {here} link add v0 address {MAC_HERE} type veth peer name v1 address {MAC_THERE} netns {there}
             ip -n {here} addr add {HERE}/24 dev v0; ip -n {there} addr add {THERE}/24 dev v1
             ip -n {here} link set v0 up; ip -n {there} link set v1 up
             ip -n {here} neigh add {THERE} lladdr {MAC_THERE} dev v0
             ip -n {there} neigh add {HERE} lladdr {MAC_HERE} dev v1"
        ));
        Some(net)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A capture that has begun.
    fn capture(&self, arguments: &[&str], file: &str) -> Capture {
        self.capture_into(arguments, self.path(file).to_str().expect("UTF-8"), Stdio::null())
    }

    fn capture_into(&self, arguments: &[&str], target: &str, stdout: Stdio) -> Capture {
        let mut command = Command::new("ip");
        command
            .args([
                "netns",
                "exec",
                &self.here,
                env!("CARGO_BIN_EXE_weir"),
                "capture",
                "-w",
                target,
            ])
            .args(arguments)
            .stdout(stdout)
            .stderr(Stdio::piped());
        Capture::start(command)
    }

    /// Runs `work` on a thread of its own inside a namespace.
    fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                work()
            });
            thread.join().expect("no panic inside")
        })
    }

    /// Sends one datagram of `length` bytes from here to each of `ports` there.
    fn send(&self, ports: &[u16], length: usize) {
        Self::inside(&self.here, || {
            let socket = UdpSocket::bind((HERE, 4000)).expect("a socket");
            for port in ports {
                socket
                    .send_to(&vec![7; length], (THERE, *port))
                    .expect("it is sent");
            }
        });
    }

    /// A TCP connection to `port` that carries `length` bytes there and one back, until nothing of it
    /// is left but what the kernel remembers.
    fn transfer(&self, port: u16, length: usize) {
        let listener = Self::inside(&self.there, || {
            TcpListener::bind((THERE, port)).expect("a listener")
        });
        let mut client = Self::inside(&self.here, || TcpStream::connect((THERE, port)).expect("a way"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut server, _) = listener.accept().expect("a client");
                let mut received = Vec::new();
                server.read_to_end(&mut received).expect("data");
                assert_eq!(received.len(), length);
                server.write_all(b"!").expect("an answer");
            });
            client.write_all(&vec![7; length]).expect("room");
            client.shutdown(Shutdown::Write).expect("an end");
            client.read_to_end(&mut Vec::new()).expect("an answer");
        });
        drop((client, listener));
        let is_quiet = |namespace: &str| {
            let table = Self::inside(namespace, || {
                std::fs::read_to_string("/proc/thread-self/net/tcp").expect("a table")
            });
            // All that may be left is TIME_WAIT.
            table
                .lines()
                .skip(1)
                .all(|line| line.split_whitespace().nth(3) == Some("06"))
        };
        wait_until("the connection ends", || {
            is_quiet(&self.here) && is_quiet(&self.there)
        });
    }

    /// Packets and bytes of v0: received, sent.
    fn counters(&self) -> [(u64, u64); 2] {
        let table = Self::inside(&self.here, || {
            std::fs::read_to_string("/proc/thread-self/net/dev").expect("counters")
        });
        let line = table
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("v0:"))
            .expect("v0");
        let columns: Vec<u64> = line
            .split_whitespace()
            .map(|column| column.parse().expect("a number"))
            .collect();
        [(columns[1], columns[0]), (columns[9], columns[8])]
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.here, &self.there] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(20));
    }
}

struct Capture {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Capture {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("weir starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut capture = Self { child, stderr };
        capture.wait_for("capturing on");
        capture
    }

    /// Reads standard error up to a line that holds `words`.
    #[track_caller]
    fn wait_for(&mut self, words: &str) -> String {
        let mut said = String::new();
        while !said.contains(words) {
            let count = self.stderr.read_line(&mut said).expect("text");
            assert!(count > 0, "it ended with: {said}");
        }
        said
    }

    /// Waits for the end; gives the exit code and what was said since.
    fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        let status = self.child.wait().expect("its end");
        (status.code().expect("no signal ended it"), said)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
    }

    /// Asks it to end; gives what it said of its packets.
    #[track_caller]
    fn stop(self) -> String {
        self.signal(Signal::SIGINT);
        let (code, said) = self.end();
        assert_eq!(code, 0, "{said}");
        said
    }
}

/// A packet of a file, without its time.
struct Found {
    direction: Direction,
    orig_len: u64,
    data: Vec<u8>,
    comment: String,
}

/// All packets of a pcapng file, which must be whole.
#[track_caller]
fn packets(path: &Path) -> Vec<Found> {
    read_packets(&std::fs::read(path).expect("the file"))
}

#[track_caller]
fn read_packets(bytes: &[u8]) -> Vec<Found> {
    let mut reader = Reader::new();
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Step::Packet(packet) = reader.next(&mut rest).expect("a sound file") {
        found.push(Found {
            direction: packet.direction(),
            orig_len: u64::from(packet.orig_len),
            data: packet.data.to_vec(),
            comment: packet.comment.unwrap_or_default().to_owned(),
        });
    }
    reader.finish(rest).expect("a whole file");
    // Only statistics are stepped over: they are there.
    assert!(reader.stats().skipped_blocks >= 1);
    found
}

fn totals(packets: &[Found], direction: Direction) -> (u64, u64) {
    packets
        .iter()
        .filter(|packet| packet.direction == direction)
        .fold((0, 0), |(n, bytes), packet| (n + 1, bytes + packet.orig_len))
}

/// What an installed program prints, or `None` where it is not installed.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    assert!(output.status.success(), "{program} {arguments:?}");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn every_packet_that_the_interface_counted() {
    let Some(net) = Net::new("all") else { return };
    let capture = net.capture(&["-i", "v0", "--comment", "a test"], "all.pcapng");
    let [rx_before, tx_before] = net.counters();
    net.transfer(5201, 4_000_000);
    net.send(&[9; 500], 100);
    let said = capture.stop();
    let [rx, tx] = net.counters();

    let path = net.path("all.pcapng");
    let found = packets(&path);
    assert_eq!(
        totals(&found, Direction::Inbound),
        (rx.0 - rx_before.0, rx.1 - rx_before.1)
    );
    assert_eq!(
        totals(&found, Direction::Outbound),
        (tx.0 - tx_before.0, tx.1 - tx_before.1)
    );
    let n = found.len();
    assert!(n > 1000 / 2, "{n}");
    assert_eq!(
        said,
        format!("{n} packets captured, {n} received, 0 dropped by the kernel\n")
    );
    let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let path = path.to_str().expect("UTF-8");
    let bytes: u64 = found.iter().map(|packet| packet.orig_len).sum();
    let fields = ["-r", path, "-T", "fields", "-e", "frame.len"];
    if let Some(lengths) = output_of("tshark", &fields) {
        let lengths: Vec<u64> = lengths
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect();
        assert_eq!((lengths.len(), lengths.iter().sum::<u64>()), (n, bytes));
    }
    if let Some(info) = output_of("capinfos", &["-M", path]) {
        for expected in [
            "a test",
            "Name = v0",
            "nanoseconds (9)",
            "Number of stat entries = 1",
            "weir ",
        ] {
            assert!(info.contains(expected), "{expected}: {info}");
        }
    }
    let flows =
        output_of(env!("CARGO_BIN_EXE_weir"), &["read", "--format", "json", path]).expect("weir reads it");
    let counted: u64 = flows
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|flow| flow["packets"].as_u64().expect("packets"))
        .sum();
    assert_eq!(counted, n as u64, "{flows}");
}

#[test]
fn what_the_filter_says_and_nothing_less() {
    let Some(net) = Net::new("filter") else { return };
    let ports = [53, 54, 53, 55];
    for (arguments, expected) in [
        (&["dport == 53"][..], 2),
        (&["dport", "in", "{54,", "55}"], 2),
        (&["not dport == 53"], 2),
        (&["direction == out and len == 142"], 4),
        (&["dst.mac == 02:00:00:00:00:02 and iface == v0"], 4),
        (&["flags.syn"], 0),
        (&["--direction", "out"], 4),
        (&["--direction", "in", "not icmp"], 0),
        // Cut to less than the headers, which the filter still sees.
        (&["--snaplen", "16", "dport == 53"], 2),
    ] {
        let capture = net.capture(&[&["-i", "v0"], arguments].concat(), "some.pcapng");
        net.send(&ports, 100);
        capture.stop();
        let found = packets(&net.path("some.pcapng"));
        // ICMP comes back for closed ports, as fast as its limit allows.
        let sent: Vec<_> = found.iter().filter(|packet| packet.orig_len == 142).collect();
        assert_eq!(sent.len(), expected, "{arguments:?}");
        let is_cut = arguments[0] == "--snaplen";
        let length = if is_cut { 16 } else { 142 };
        assert!(
            sent.iter().all(|packet| packet.data.len() == length),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_vlan_tag_is_where_it_was() {
    let Some(net) = Net::new("vlan") else { return };
    let capture = net.capture(&["-i", "v0", "--annotate", "vlan == 100"], "vlan.pcapng");
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x60, 100, 0x08, 0x06];
    frame.resize(64, 0x5a);
    Net::inside(&net.there, || send_frame(&frame));
    frame[15] = 101;
    Net::inside(&net.there, || send_frame(&frame));
    frame[15] = 100;
    capture.stop();
    let found = packets(&net.path("vlan.pcapng"));
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].data, found[0].orig_len), (&frame, 64));
    assert_eq!(found[0].comment, "VLAN tag put back");
}

/// Sends a frame as it is from v1.
fn send_frame(frame: &[u8]) {
    let index = nix::net::if_::if_nametoindex("v1").expect("v1");
    // SAFETY: plain system calls on values that outlive them; all-zero is a valid sockaddr_ll.
    let sent = unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(socket);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index.cast_signed();
        address.sll_halen = 6;
        libc::sendto(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
}

#[test]
fn limits_end_it() {
    let Some(net) = Net::new("limits") else { return };
    let capture = net.capture(&["-i", "v0", "--count", "3"], "count.pcapng");
    net.send(&[9; 10], 100);
    assert_eq!(capture.end().0, 0);
    assert_eq!(packets(&net.path("count.pcapng")).len(), 3);

    let capture = net.capture(&["-i", "v0", "--max-bytes", "4k"], "bytes.pcapng");
    net.send(&[9; 50], 100);
    assert_eq!(capture.end().0, 0);
    let path = net.path("bytes.pcapng");
    assert!(packets(&path).len() > 10);
    let length = std::fs::metadata(&path).expect("the file").len();
    assert!((3700..=4000).contains(&length), "{length}");

    let begun = Instant::now();
    let capture = net.capture(&["-i", "v0", "--seconds", "1"], "seconds.pcapng");
    net.send(&[9; 5], 1);
    assert_eq!(capture.end().0, 0);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(packets(&net.path("seconds.pcapng")).len() >= 5);
}

#[test]
fn streams_and_gzip() {
    let Some(net) = Net::new("streams") else { return };
    let mut capture = net.capture_into(&["-i", "v0", "--direction", "out"], "-", Stdio::piped());
    net.send(&[9; 20], 10);
    let mut stdout = capture.child.stdout.take().expect("a pipe");
    capture.signal(Signal::SIGTERM);
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes).expect("data");
    assert_eq!(capture.end().0, 0);
    assert_eq!(read_packets(&bytes).len(), 20);

    // A reader that has seen enough is no failure.
    let mut capture = net.capture_into(&["-i", "v0"], "-", Stdio::piped());
    drop(capture.child.stdout.take());
    net.send(&[9; 20], 10);
    assert_eq!(capture.end().0, 0);

    let capture = net.capture(&["-i", "v0", "--direction", "out"], "x.pcapng.gz");
    net.send(&[9; 20], 10);
    // What was captured can be read while the capture goes on.
    let unpacked = || {
        let file = File::open(net.path("x.pcapng.gz")).expect("the file");
        let mut bytes = Vec::new();
        // Unfinished data ends in an error, after what is there.
        let _ = flate2::read::GzDecoder::new(file).read_to_end(&mut bytes);
        bytes
    };
    wait_until("a flush", || unpacked().len() > 20 * 64);
    capture.stop();
    assert_eq!(read_packets(&unpacked()).len(), 20);
}

#[test]
fn several_interfaces_and_loopback_once() {
    let Some(net) = Net::new("any") else { return };
    let capture = net.capture(&["-i", "any", "-i", "lo"], "any.pcapng");
    net.send(&[9; 5], 100);
    Net::inside(&net.here, || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for _ in 0..7 {
            socket
                .send_to(&[1; 200], socket.local_addr().expect("bound"))
                .expect("sent");
        }
    });
    let said = capture.stop();
    assert!(said.contains("  lo: 7 packets captured, 7 received"), "{said}");
    let found = packets(&net.path("any.pcapng"));
    let of_length = |length: u64| found.iter().filter(|packet| packet.orig_len == length).count();
    assert_eq!((of_length(142), of_length(242)), (5, 7));
}

#[test]
fn comments_say_what_is_known() {
    let Some(net) = Net::new("annotate") else { return };
    let capture = net.capture(&["-i", "v0", "--annotate", "proto == tcp"], "said.pcapng");
    net.transfer(5201, 100);
    capture.stop();
    let found = packets(&net.path("said.pcapng"));
    assert!(
        found[0].comment.starts_with("SYN; first of flow 1:"),
        "{}",
        found[0].comment
    );
    assert!(
        found[1].comment.starts_with("SYN-ACK; server answered after "),
        "{}",
        found[1].comment
    );
    let ends = found
        .iter()
        .filter(|packet| packet.comment.starts_with("FIN"))
        .count();
    assert_eq!(ends, 2);
}

#[test]
fn interfaces_that_go_down_and_away() {
    let Some(net) = Net::new("away") else { return };
    let mut capture = net.capture(&["-i", "v0", "--direction", "out"], "away.pcapng");
    net.send(&[9; 3], 10);
    sh(&format!("ip -n {} link set v0 down", net.here));
    capture.wait_for("v0 went down");
    sh(&format!(
        "ip -n {0} link set v0 up; ip -n {0} neigh replace {THERE} lladdr {MAC_THERE} dev v0",
        net.here
    ));
    net.send(&[9; 4], 10);
    sh(&format!("ip -n {} link del v0", net.here));
    let (code, said) = capture.end();
    assert_eq!(code, 1);
    assert!(
        said.contains("v0 has gone") && said.contains("every interface has gone"),
        "{said}"
    );
    assert_eq!(packets(&net.path("away.pcapng")).len(), 7);
}

#[test]
fn a_full_disk_leaves_a_readable_file() {
    let Some(net) = Net::new("full") else { return };
    let copy = net.path("copy.pcapng");
    let script = format!(
        "mount -t tmpfs -o size=64k none {0} && {1} capture -i v0 -w {0}/x.pcapng; code=$?; \
         cat {0}/x.pcapng >&3; exit $code",
        net.path("disk").display(),
        env!("CARGO_BIN_EXE_weir"),
    );
    std::fs::create_dir(net.path("disk")).expect("a folder");
    let mut command = Command::new("ip");
    command
        .args([
            "netns",
            "exec",
            &net.here,
            "unshare",
            "-m",
            "sh",
            "-c",
            &format!("exec 3>{}; {script}", copy.display()),
        ])
        .stderr(Stdio::piped());
    let capture = Capture::start(command);
    net.send(&[9; 400], 500);
    let (code, said) = capture.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    let bytes = std::fs::read(&copy).expect("the copy");
    let mut reader = Reader::new();
    let mut rest = &bytes[..];
    while let Step::Packet(_) = reader.next(&mut rest).expect("a sound file") {}
    reader.finish(rest).expect("a whole file");
    assert!(reader.stats().packets > 50, "{}", reader.stats().packets);
}

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("capture")
        .args(arguments)
        .output()
        .expect("weir starts")
}

#[test]
fn wrong_words_are_answered_in_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.pcapng");
    let path = path.to_str().expect("UTF-8");
    for (arguments, expected) in [
        (
            &["-i", "no-such", "-w", path][..],
            "no interface is named `no-such`: expected ",
        ),
        (
            &["-i", "lo", "-w", path, "dprt == 53"],
            "  dprt == 53\n  ^^^^\nhint: did you mean `dport`?",
        ),
        (&["-i", "lo", "-w", path, "pid == 1"], "`pid` is known of flows"),
        (
            &["-i", "lo", "-w", path, "country == DE"],
            "`country` is not known",
        ),
        (&["-i", "lo"], "--write"),
        (&["-w", path], "--iface"),
        (
            &["-i", "lo", "-w", path, "--max-bytes", "lots"],
            "expected a number of bytes",
        ),
        (&["-i", "lo", "-w", path, "--ring-mib", "9999"], "1..=4096"),
    ] {
        let output = weir(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert!(!Path::new(path).exists());
}

#[test]
fn a_terminal_gets_no_binary_data() {
    let (mut controller, mut terminal) = (0, 0);
    // SAFETY: both descriptors are written on success, and owned at once.
    let (_controller, terminal) = unsafe {
        let null = std::ptr::null_mut();
        let result = libc::openpty(
            &raw mut controller,
            &raw mut terminal,
            null,
            null.cast(),
            null.cast(),
        );
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        (OwnedFd::from_raw_fd(controller), OwnedFd::from_raw_fd(terminal))
    };
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["capture", "-i", "lo", "-w", "-"])
        .stdout(terminal)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(Child::wait_with_output)
        .expect("weir starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a terminal cannot show"));
}

#[test]
fn without_the_capability_one_sentence() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.pcapng");
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"])
        .args([env!("CARGO_BIN_EXE_weir"), "capture", "-i", "lo", "-w"])
        .arg(&path)
        .output()
        .expect("setpriv starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("weir: capturing needs the capability CAP_NET_RAW"),
        "{said}"
    );
    assert!(!path.exists());
}
