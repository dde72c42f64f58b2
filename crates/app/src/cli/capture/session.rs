//! The capture itself: packets from sockets to the file until told to stop.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use inspect::capfile::{
    Direction, InterfaceId, InterfaceInfo, InterfaceStatistics, PacketInfo, PcapngWriter, SectionInfo,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wire::{Link, Start};

use super::annotate::Annotator;
use super::output::Output;
use super::plan::Plan;
use super::{matching, say, signals};
use crate::packet_socket::{Frame, Interface, PacketSocket, SocketCounts};

/// Bytes gathered before they are written. Longer writes cost more: capturing 280 MB/s into a file of
/// ext4 took half the processor time with 64 KiB as with 256 KiB, and lost nothing instead of 20 %.
const WRITE_LEN: usize = 64 * 1024;
/// Frames taken from one interface before the next has its turn.
const TURN_FRAMES: usize = 1024;
/// Longest wait for packets in milliseconds: what else has to be done is looked at so often.
const WAIT_MS: u16 = 100;
/// How often counters are read, what was written is flushed, and progress is shown.
const TICK: Duration = Duration::from_secs(1);
/// How long packets that are still in the rings are waited for at the end: the kernel hands over a
/// block within 50 ms.
const DRAIN: Duration = Duration::from_secs(2);
/// Length of an interface statistics block in bytes.
const STATISTICS_LEN: u64 = 104;

/// Why a capture ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A signal, or the time is over: what the rings hold still belongs to the capture.
    Stopped,
    /// As many packets or bytes as were wanted.
    Full,
    /// Every interface has gone.
    Gone,
}

/// One interface being captured from.
#[derive(Debug)]
struct Source {
    interface: Interface,
    socket: PacketSocket,
    id: InterfaceId,
    link: Option<Link>,
    counts: SocketCounts,
    /// Packets the filter let through.
    accepted: u64,
    /// Packets in the file.
    delivered: u64,
    is_gone: bool,
}

/// What is being written, besides the sockets it comes from.
struct Recorder<'a> {
    plan: &'a Plan,
    writer: PcapngWriter,
    output: Output,
    annotator: Option<Annotator>,
    delivered: u64,
}

/// Captures until a signal, a limit, an error, or the end of every interface.
pub(super) fn capture(plan: &Plan) -> Result<ExitCode> {
    signals::listen()?;
    let start = SystemTime::now();
    let mut writer = PcapngWriter::new(&SectionInfo {
        hardware: &hardware(),
        os: &operating_system(),
        application: concat!("weir ", env!("CARGO_PKG_VERSION")),
        comment: &plan.comment,
    });
    let mut sources = open_sources(plan, &mut writer)?;
    let mut recorder = Recorder {
        plan,
        writer,
        output: Output::open(&plan.target)?,
        annotator: plan.annotate.then(Annotator::default),
        delivered: 0,
    };
    announce(plan, &sources, &recorder.output);
    let result = record(&mut sources, &mut recorder)
        .and_then(|end| finish(&mut sources, &mut recorder, end, start).map(|()| end));
    let Recorder {
        output,
        annotator,
        delivered,
        ..
    } = recorder;
    let name = output.name().to_owned();
    let result = result.and_then(|end| output.finish().map(|()| end));
    // After an error the counters have not been read for up to a second.
    for source in &mut sources {
        source.read_counts();
    }
    summarize(&sources, annotator.as_ref());
    match result {
        Ok(End::Gone) => {
            say("weir: every interface has gone");
            Ok(ExitCode::FAILURE)
        }
        Ok(End::Stopped | End::Full) => Ok(ExitCode::SUCCESS),
        // The reader of our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).with_context(|| {
            format!("cannot write to {name}: of the {delivered} packets taken, those that fit are in it")
        }),
    }
}

fn open_sources(plan: &Plan, writer: &mut PcapngWriter) -> Result<Vec<Source>> {
    let options = plan.socket_options();
    let os = operating_system();
    let mut sources = Vec::with_capacity(plan.interfaces.len());
    for interface in &plan.interfaces {
        let socket = PacketSocket::open(interface, options)?;
        let id = writer.add_interface(&InterfaceInfo {
            name: &interface.name,
            description: &description(interface),
            linktype: interface.linktype,
            snaplen: plan.snaplen,
            mac: interface.mac,
            filter: &plan.filter_text,
            os: &os,
        });
        sources.push(Source {
            link: Link::from_linktype(u32::from(interface.linktype)),
            interface: interface.clone(),
            socket,
            id,
            counts: SocketCounts::default(),
            accepted: 0,
            delivered: 0,
            is_gone: false,
        });
    }
    Ok(sources)
}

fn announce(plan: &Plan, sources: &[Source], output: &Output) {
    for source in sources.iter().filter(|source| !source.interface.is_up) {
        say(&format!(
            "{} is down: its packets come once it is up",
            source.interface.name
        ));
    }
    let names: Vec<&str> = plan
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    say(&format!(
        "capturing on {}, writing to {}",
        names.join(", "),
        output.name()
    ));
}

/// Takes packets until there is a reason to end.
fn record(sources: &mut [Source], recorder: &mut Recorder<'_>) -> io::Result<End> {
    let begun = Instant::now();
    let deadline = recorder
        .plan
        .seconds_max
        .map(|seconds| begun + Duration::from_secs(u64::from(seconds)));
    let mut next_tick = begun + TICK;
    let shows_progress = io::stderr().is_terminal();
    // The file is a capture from the first moment on, also for a reader of the pipe.
    recorder.write_out()?;
    recorder.output.flush()?;
    loop {
        let mut is_idle = true;
        for source in sources.iter_mut() {
            let (n_frames, is_full) = recorder.take_turn(source)?;
            if is_full {
                return Ok(End::Full);
            }
            is_idle &= n_frames < TURN_FRAMES;
        }
        let now = Instant::now();
        if now >= next_tick {
            next_tick = now + TICK;
            tick(sources, recorder, shows_progress)?;
        }
        if signals::is_stop_asked() || deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(End::Stopped);
        }
        if is_idle {
            let until_deadline = deadline.map_or(Duration::MAX, |deadline| deadline - now);
            let wait_ms = until_deadline.as_millis().min(u128::from(WAIT_MS)) as u16;
            if sources.iter().all(|source| source.is_gone) {
                return Ok(End::Gone);
            }
            wait(sources, wait_ms)?;
        }
    }
}

/// Takes what is left, then writes the counts.
fn finish(
    sources: &mut [Source],
    recorder: &mut Recorder<'_>,
    end: End,
    start: SystemTime,
) -> io::Result<()> {
    if end == End::Full {
        for source in sources.iter_mut() {
            source.read_counts();
        }
    } else {
        drain(sources, recorder)?;
    }
    let now_ns = ns_of(SystemTime::now());
    for source in sources {
        let counts = InterfaceStatistics {
            ts_ns: now_ns,
            start_ns: ns_of(start),
            end_ns: now_ns,
            received: source.counts.received,
            dropped: source.counts.dropped,
            accepted: source.accepted,
            delivered: source.delivered,
        };
        recorder.writer.statistics(source.id, &counts);
    }
    recorder.write_out()
}

/// Lets no more packets in and takes those that are there, until the kernel's count is reached.
fn drain(sources: &mut [Source], recorder: &mut Recorder<'_>) -> io::Result<()> {
    for source in sources.iter() {
        source.socket.stop()?;
    }
    let deadline = Instant::now() + DRAIN;
    loop {
        let mut is_drained = true;
        for source in sources.iter_mut() {
            source.read_counts();
            let (n_frames, is_full) = recorder.take_turn(source)?;
            if is_full {
                return Ok(());
            }
            is_drained &= n_frames == 0 && source.socket.is_drained()?;
        }
        if is_drained || Instant::now() >= deadline {
            return Ok(());
        }
        wait(sources, 10)?;
    }
}

impl Source {
    fn read_counts(&mut self) {
        // Fails only for descriptors that are no packet sockets; the counts then stay as they are.
        if let Ok(counts) = self.socket.counts() {
            self.counts = counts;
        }
    }

    /// The socket reports that an interface goes down, but not that it is removed after that.
    fn notice_removal(&mut self) {
        if !self.is_gone && !self.interface.is_there() {
            self.is_gone = true;
            say(&format!(
                "{} has gone: no more packets come from it",
                self.interface.name
            ));
        }
    }
}

impl Recorder<'_> {
    /// Takes up to [`TURN_FRAMES`] frames; gives how many, and whether as much as wanted was written.
    fn take_turn(&mut self, source: &mut Source) -> io::Result<(usize, bool)> {
        let Source {
            interface,
            socket,
            id,
            link,
            accepted,
            delivered,
            ..
        } = source;
        let mut n_frames = 0;
        while n_frames < TURN_FRAMES
            && let Some(frame) = socket.next()
        {
            n_frames += 1;
            let Some(comment_len) = self.judge(interface, *link, &frame) else {
                continue;
            };
            *accepted += 1;
            let kept_len = frame.data.len().min(self.plan.snaplen as usize);
            if self.would_be_too_long(kept_len, comment_len) {
                return Ok((n_frames, true));
            }
            self.put(*id, &frame, kept_len);
            *delivered += 1;
            self.delivered += 1;
            if self.writer.bytes().len() >= WRITE_LEN {
                self.write_out()?;
            }
            if self.delivered >= self.plan.count_max {
                return Ok((n_frames, true));
            }
        }
        Ok((n_frames, false))
    }

    /// `None` if the filter does not hold; else makes the comment and gives its length in bytes.
    fn judge(&mut self, interface: &Interface, link: Option<Link>, frame: &Frame<'_>) -> Option<usize> {
        if self.plan.filter.is_none() && self.annotator.is_none() {
            return Some(0);
        }
        let parsed = match link {
            Some(link) => wire::parse(frame.data, Start::of(link, frame.wire_len)),
            None => Err(wire::Reject::LinkUnknown),
        };
        // Before the filter: a repetition is one also of a packet that was not kept.
        let comment_len = self.annotator.as_mut().map_or(0, |annotator| {
            annotator.annotate(interface, frame, &parsed);
            annotator.comment().len()
        });
        let is_kept = self
            .plan
            .filter
            .as_ref()
            .is_none_or(|filter| matching::holds(filter, interface, frame, &parsed));
        is_kept.then_some(comment_len)
    }

    fn put(&mut self, id: InterfaceId, frame: &Frame<'_>, kept_len: usize) {
        self.writer.packet(
            id,
            &PacketInfo {
                ts_ns: frame.ts_ns,
                orig_len: frame.wire_len,
                direction: if frame.is_outgoing {
                    Direction::Outbound
                } else {
                    Direction::Inbound
                },
                comment: self.annotator.as_ref().map_or("", Annotator::comment),
                data: &frame.data[..kept_len],
            },
        );
    }

    /// Whether a packet more, and the counts at the end, would exceed the wanted length.
    fn would_be_too_long(&self, kept_len: usize, comment_len: usize) -> bool {
        // Enhanced Packet Block: fixed fields, then flags, comment and the end of options.
        let block_len = 32 + kept_len.next_multiple_of(4) + 8 + 4 + comment_len.next_multiple_of(4) + 4;
        let end_len = STATISTICS_LEN * self.plan.interfaces.len() as u64;
        let so_far = self.output.len() + self.writer.bytes().len() as u64;
        so_far + block_len as u64 + end_len > self.plan.bytes_max
    }

    fn write_out(&mut self) -> io::Result<()> {
        let result = self.output.write(self.writer.bytes());
        self.writer.clear();
        result
    }
}

fn tick(sources: &mut [Source], recorder: &mut Recorder<'_>, shows_progress: bool) -> io::Result<()> {
    for source in sources.iter_mut() {
        source.read_counts();
        source.notice_removal();
    }
    recorder.write_out()?;
    recorder.output.flush()?;
    if shows_progress {
        let dropped: u64 = sources.iter().map(|source| source.counts.dropped).sum();
        let _ = write!(
            io::stderr(),
            "\r\x1b[K  {} packets, {} bytes, {dropped} dropped",
            recorder.delivered,
            recorder.output.len(),
        );
    }
    Ok(())
}

/// Waits until a socket has something to say.
fn wait(sources: &mut [Source], wait_ms: u16) -> io::Result<()> {
    let troubled: Vec<bool> = {
        let mut wanted: Vec<PollFd<'_>> = sources
            .iter()
            .filter(|source| !source.is_gone)
            .map(|source| PollFd::new(source.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut wanted, PollTimeout::from(wait_ms)) {
            Ok(_) => {}
            // A signal, which the caller looks at.
            Err(Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        wanted
            .iter()
            .map(|one| one.revents().is_some_and(|got| got.contains(PollFlags::POLLERR)))
            .collect()
    };
    let present = sources.iter_mut().filter(|source| !source.is_gone);
    for (source, is_troubled) in present.zip(troubled) {
        if is_troubled {
            notice_trouble(source);
        }
    }
    Ok(())
}

/// An interface that went down comes back by itself; one that was removed does not.
fn notice_trouble(source: &mut Source) {
    let Some(error) = source.socket.take_error() else {
        return;
    };
    source.notice_removal();
    let name = &source.interface.name;
    if source.is_gone {
        return;
    }
    if error.raw_os_error() == Some(libc::ENETDOWN) {
        // Said already of one that was down from the start.
        if source.interface.is_up {
            say(&format!("{name} went down: its packets come once it is up again"));
        }
    } else {
        say(&format!("{name}: {error}"));
    }
}

fn summarize(sources: &[Source], annotator: Option<&Annotator>) {
    if io::stderr().is_terminal() {
        // Clears the progress line.
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let sum = |count: fn(&Source) -> u64| sources.iter().map(count).sum::<u64>();
    let total = Tally {
        delivered: sum(|source| source.delivered),
        received: sum(|source| source.counts.received),
        dropped: sum(|source| source.counts.dropped),
    };
    say(&total.sentence());
    if sources.len() > 1 {
        for source in sources {
            let tally = Tally {
                delivered: source.delivered,
                received: source.counts.received,
                dropped: source.counts.dropped,
            };
            say(&format!("  {}: {}", source.interface.name, tally.sentence()));
        }
    }
    if let Some(unremembered) = annotator.map(Annotator::unremembered).filter(|count| *count > 0) {
        say(&format!(
            "{unremembered} packets have no comment about their flow: more flows than are remembered"
        ));
    }
}

struct Tally {
    delivered: u64,
    received: u64,
    dropped: u64,
}

impl Tally {
    fn sentence(&self) -> String {
        let Tally {
            delivered,
            received,
            dropped,
        } = self;
        let why = if *dropped > 0 {
            ": ring full (--ring-mib gives it more room)"
        } else {
            ""
        };
        format!("{delivered} packets captured, {received} received, {dropped} dropped by the kernel{why}")
    }
}

fn description(interface: &Interface) -> String {
    let large = if interface.has_large_frames {
        "; segmentation offload is on: frames may be larger than on the wire, and checksums of outgoing ones \
         unfinished"
    } else {
        ""
    };
    format!("MTU {}{large}", interface.mtu_bytes)
}

fn operating_system() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |name| {
            format!(
                "{} {}",
                name.sysname().to_string_lossy(),
                name.release().to_string_lossy()
            )
        },
    )
}

/// The processor, as /proc/cpuinfo names it, or else the architecture.
fn hardware() -> String {
    let table = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = table
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, model)| format!("{} ({})", model.trim(), std::env::consts::ARCH),
    )
}

fn ns_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
