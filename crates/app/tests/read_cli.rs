//! `weir read` as people and scripts call it: inputs, filters, formats, messages, exit codes.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use inspect::capfile::PcapWriter;

const LINKTYPE_RAW: u16 = 101;

/// A UDP packet without payload from 10.0.0.`host` to 10.0.0.1.
fn udp(host: u8, src_port: u16, dst_port: u16, payload_len: u8) -> Vec<u8> {
    let total_len = 28 + payload_len;
    let mut packet = vec![0x45, 0, 0, total_len, 0, 1, 0, 0, 64, 17, 0, 0];
    packet.extend([10, 0, 0, host, 10, 0, 0, 1]);
    packet.extend(src_port.to_be_bytes());
    packet.extend(dst_port.to_be_bytes());
    packet.extend([0, 8 + payload_len, 0, 0]);
    packet.extend(vec![0; payload_len.into()]);
    packet
}

/// Three flows of one packet each; the second is the largest.
fn capture() -> Vec<u8> {
    let mut writer = PcapWriter::new(LINKTYPE_RAW, 0);
    for (at, (host, dst_port, len)) in [(2, 53, 4), (3, 443, 200), (4, 53, 40)].into_iter().enumerate() {
        let packet = udp(host, 4000 + u16::from(host), dst_port, len);
        writer.packet(
            1_600_000_000_000_000_000 + at as u64,
            packet.len() as u32,
            &packet,
        );
    }
    writer.bytes().to_vec()
}

fn weir(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("read")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("weir starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    // A command line it refuses closes the pipe unread.
    let _ = pipe.write_all(stdin);
    drop(pipe);
    child.wait_with_output().expect("weir ends")
}

/// Exit code, stdout and stderr of `weir read ARGS` with a capture on its standard input.
#[track_caller]
fn check(args: &[&str], stdin: &[u8], code: i32, stdout: &str, stderr: &str) {
    let output = weir(args, stdin);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    assert_eq!(
        (
            output.status.code(),
            text(&output.stdout).as_str(),
            text(&output.stderr).as_str()
        ),
        (Some(code), stdout, stderr)
    );
}

const TABLE: &str = "\
PROTO  CLIENT         SERVER        STATE  PACKETS > <  BYTES > <  DURATION  RTT  NOTES
udp    10.0.0.3:4003  10.0.0.1:443  new            1 0  228 B 0 B         0
udp    10.0.0.4:4004  10.0.0.1:53   new            1 0   68 B 0 B         0
udp    10.0.0.2:4002  10.0.0.1:53   new            1 0   32 B 0 B         0
3 flows; 3 packets read
";

#[test]
fn a_table_is_sorted_limited_and_plain_in_a_pipe() {
    check(&["-"], &capture(), 0, TABLE, "");
    let first: Vec<&str> = TABLE.lines().take(2).collect();
    check(
        &["-", "--limit", "1"],
        &capture(),
        0,
        &format!("{}\n3 flows, 1 shown; 3 packets read\n", first.join("\n")),
        "",
    );
}

#[test]
fn filters_look_at_flows() {
    check(
        &["-", "-F", "dport == 53 and bytes > 40", "-f", "csv"],
        &capture(),
        0,
        "start_ns,end_ns,proto,src,sport,dst,dport,iface,vlan,tunnel,vni,packets_toserver,packets_toclient,\
         bytes_toserver,bytes_toclient,state,reason,tcp_state,tcp_flags,rtt_us,retransmits,out_of_order,\
         zero_windows,resets,icmp_type,icmp_code,incomplete,community_id,app,service,server_name,\
         src_country,dst_country\n\
         1600000000000000002,1600000000000000002,udp,10.0.0.4,4004,10.0.0.1,53,,,,,1,0,68,0,new,shutdown,\
         ,,,,,,,,,false,1:enXxoWa30X0BC9YCEnt8dK2Ey+s=,,,,,\n",
        "",
    );
    check(
        &["-", "-F", "dport == 53 and foo"],
        &capture(),
        2,
        "",
        "weir: --filter: error: unknown field `foo`\n  dport == 53 and foo\n                  ^^^\n\
         hint: fields are src, dst, sport, dport, proto, app, comm, country and more\n",
    );
    check(
        &["-", "-F", "len > 5"],
        &capture(),
        2,
        "",
        "weir: --filter: error: `len` is known of single packets, not of flows\n  len > 5\n  ^^^\n\
         hint: flows have bytes, packets and rates; use `weir capture` for this field\n",
    );
}

#[test]
fn a_summary_is_one_page() {
    check(
        &["-", "--format", "summary"],
        &capture(),
        0,
        "\
CAPTURE
  inputs   standard input
  packets  3, 328 B
  first    2020-09-13T12:26:40.000000000Z
  last     2020-09-13T12:26:40.000000002Z, 1 µs later
  flows    3

PROTOCOLS
       flows  packets  bytes    share
  udp      3        3  328 B  100.0 %

APPLICATIONS
           flows  packets  bytes    share
  unknown      3        3  328 B  100.0 %

HOSTS, AS EITHER SIDE
            flows  packets  bytes    share
  10.0.0.1      3        3  328 B  100.0 %
  10.0.0.3      1        1  228 B   69.5 %
  10.0.0.4      1        1   68 B   20.7 %
  10.0.0.2      1        1   32 B    9.8 %

SERVERS
                    flows  packets  bytes   share
  udp 10.0.0.1:443      1        1  228 B  69.5 %
  udp 10.0.0.1:53       2        2  100 B  30.5 %
",
        "",
    );
}

#[test]
fn json_lines_come_in_the_order_flows_end() {
    let lines = |args: &[&str]| -> Vec<u64> {
        let output = weir(args, &capture());
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let bytes = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            record["bytes"].as_u64().expect("a number")
        };
        text.lines().map(bytes).collect()
    };
    assert_eq!(lines(&["-", "-f", "json"]), [32, 228, 68]);
    assert_eq!(lines(&["-", "-f", "json", "--sort", "bytes"]), [228, 68, 32]);
    assert_eq!(
        lines(&["-", "-f", "json", "--sort", "bytes", "-n", "2"]),
        [228, 68]
    );
    assert_eq!(lines(&["-", "-f", "json", "-n", "2"]), [32, 228]);
}

#[test]
fn what_is_readable_is_shown_before_the_error() {
    let mut cut = capture();
    cut.truncate(cut.len() - 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cut.pcap");
    fs::write(&path, &cut).expect("room");
    let name = path.display();
    check(
        &[&name.to_string(), "-n", "1"],
        &[],
        1,
        "PROTO  CLIENT         SERVER        STATE  PACKETS > <  BYTES > <  DURATION  RTT  NOTES\n\
         udp    10.0.0.3:4003  10.0.0.1:443  new            1 0  228 B 0 B         0\n\
         2 flows, 1 shown; 2 packets read\n",
        &format!(
            "weir: {name}: at byte 316: the file is cut short: this record needs at least 84 bytes, 83 are left\n"
        ),
    );
}

#[test]
fn a_missing_input_is_wrong_usage_and_the_others_are_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(Path::new(&path("good")), capture()).expect("room");
    check(
        &[&path("missing"), &path("good")],
        &[],
        2,
        TABLE,
        &format!(
            "weir: cannot open {}: No such file or directory (os error 2)\n",
            path("missing")
        ),
    );
    let output = weir(&[], &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["read", "-", "-f", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("weir starts");
    drop(child.stdout.take());
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&capture()).expect("weir reads");
    drop(pipe);
    let output = child.wait_with_output().expect("weir ends");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn a_full_table_is_said() {
    let output = weir(&["-", "-f", "json", "--flows-max", "2"], &capture());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 3);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        text.starts_with("weir: 1 flows ended early, since more than --flows-max"),
        "{text}"
    );
}
