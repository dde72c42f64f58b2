//! `weir bench gateway-load`: asks one server for a while and says on stdout what it took.
//!
//! A process of its own, one thread, epoll; a request is one write and an answer mostly one read, so that the load
//! costs little beside what it measures. Three ways:
//!
//! - closed loop: every connection asks again as soon as it has its answer. Shows the most requests a second.
//! - open loop (`--rate`): requests are due at times drawn beforehand, whether or not earlier ones were answered, and
//!   each is timed from when it was due. A server that stalls cannot hide it (no coordinated omission).
//! - streams (`--stream`): every connection has one stream at a time, begun anew after a drawn pause.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use memchr::memmem;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};

use super::answer::{Read, holds_token, whole};
use super::process;
use crate::lab::random::Random;

/// What a request asks; with its head about 500 bytes.
const QUESTION: &str = "Describe in two or three sentences how the water behaves above and below a weir, and why \
    people build them in slow rivers. Name one use for each.";
/// Most bytes of one answer that is not a stream; more is an error.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Requests that are due and wait for a free connection; later ones are counted as not sent.
const WAITING_MAX: usize = 100_000;
/// Most samples kept of each kind.
const SAMPLES_MAX: usize = 4_000_000;
/// Longest pause before a connection's next stream.
const PAUSE_MAX_MS: u32 = 50;
/// How long `--until-open` waits beyond the time given.
const OPENING_MAX: Duration = Duration::from_secs(60);
/// How often it looks whether they are.
const OPENING_POLL: Duration = Duration::from_millis(50);
/// The token of the timer among those of connections.
const TIMER: u64 = u64::MAX;
const EVENTS: usize = 256;
/// Errors told in full.
const ERRORS_TOLD: u64 = 3;

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    key: String,
    #[arg(long)]
    model: String,
    /// A further header, as `name: value`
    #[arg(long)]
    header: Vec<String>,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    seconds: f64,
    #[arg(long, default_value_t = 0.5)]
    warm_up_seconds: f64,
    /// Requests a second
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, conflicts_with = "rate")]
    stream: bool,
    /// Go on, a while at most, until every connection has a stream under way
    #[arg(long, requires = "stream")]
    until_open: bool,
    /// Processes whose processor time and memory are told
    #[arg(long)]
    pid: Vec<u32>,
}

/// What one slice found. Times in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    /// Due, but no connection was free to the end.
    pub(super) not_sent: u64,
    pub(super) latency_us: Percentiles,
    /// From the request to the first token: a delta with text in it, not the first bytes of the stream.
    pub(super) first_us: Percentiles,
    /// From one piece of a stream to the next.
    pub(super) gap_us: Percentiles,
    pub(super) cpu_seconds: f64,
    pub(super) load_cpu_seconds: f64,
    /// At the end, with everything open.
    pub(super) resident_bytes: u64,
    /// Streams that had begun when memory was read.
    pub(super) open_streams: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) samples: u64,
}

impl Percentiles {
    fn of(mut samples_ns: Vec<u64>) -> Self {
        samples_ns.sort_unstable();
        let at = |share: f64| {
            let idx = ((samples_ns.len() as f64 * share) as usize).min(samples_ns.len().saturating_sub(1));
            samples_ns.get(idx).map_or(0.0, |&ns| ns as f64 / 1000.0)
        };
        Self {
            p50: at(0.5),
            p99: at(0.99),
            samples: samples_ns.len() as u64,
        }
    }
}

pub(in crate::bench) fn run(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let found = Load::new(args)?.run()?;
    let mut text = serde_json::to_string(&found)?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Sent; `since` is when it was due.
    Waiting {
        since: Instant,
    },
    /// The head is read; `last` is when bytes came.
    Streaming {
        since: Instant,
        last: Instant,
        has_token: bool,
    },
    /// Asks for the next stream then.
    Pausing {
        until: Instant,
    },
}

struct Load<'a> {
    args: &'a LoadArgs,
    request: Vec<u8>,
    epoll: Epoll,
    timer: TimerFd,
    conns: Vec<Conn>,
    idle: Vec<usize>,
    waiting: VecDeque<Instant>,
    random: Random,
    is_counting: bool,
    found: Found,
    latencies: Vec<u64>,
    firsts: Vec<u64>,
    gaps: Vec<u64>,
}

impl<'a> Load<'a> {
    fn new(args: &'a LoadArgs) -> anyhow::Result<Self> {
        // Timers on time: the default slack of 50 µs is of the size of what is measured.
        nix::sys::prctl::set_timerslack(1).context("cannot set the timer slack")?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut load = Self {
            args,
            request: request(args),
            epoll,
            timer,
            conns: Vec::with_capacity(args.connections),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            random: Random::new(1, "load"),
            is_counting: false,
            found: Found::default(),
            latencies: Vec::new(),
            firsts: Vec::new(),
            gaps: Vec::new(),
        };
        for at in 0..args.connections {
            let stream = load.connect(at)?;
            load.conns.push(Conn {
                stream,
                buffer: Vec::with_capacity(4096),
                state: State::Idle,
            });
        }
        Ok(load)
    }

    fn connect(&self, at: usize) -> anyhow::Result<TcpStream> {
        let target = self.args.target;
        let stream = TcpStream::connect(target).with_context(|| format!("cannot connect to {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.epoll
            .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, at as u64))?;
        Ok(stream)
    }

    fn run(mut self) -> anyhow::Result<Found> {
        let begun = Instant::now();
        let counting_from = begun + Duration::from_secs_f64(self.args.warm_up_seconds);
        let until = counting_from + Duration::from_secs_f64(self.args.seconds);
        let mut next_due = begun;
        let mut cpu = (0.0, 0.0);
        if self.args.rate.is_some() {
            self.idle = (0..self.conns.len()).rev().collect();
        } else if self.args.stream {
            for at in 0..self.conns.len() {
                self.pause(at, begun);
            }
        } else {
            for at in 0..self.conns.len() {
                self.send(at, Instant::now())?;
            }
        }
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let now = Instant::now();
            let is_opening =
                || self.args.until_open && now < until + OPENING_MAX && self.n_open() < self.conns.len();
            if now >= until && !is_opening() {
                break;
            }
            if !self.is_counting && now >= counting_from {
                self.is_counting = true;
                cpu = (process::cpu_seconds(&self.args.pid), process::own_cpu_seconds());
            }
            // What is due now.
            let mut wake = match self.is_counting {
                false => counting_from,
                true if now < until => until,
                true => now + OPENING_POLL,
            };
            if let Some(rate) = self.args.rate {
                while next_due <= now {
                    if self.waiting.len() < WAITING_MAX {
                        self.waiting.push_back(next_due);
                    } else if self.is_counting {
                        self.found.not_sent += 1;
                    }
                    next_due += self.interval(rate);
                }
                wake = wake.min(next_due);
                while let (Some(&due), Some(&at)) = (self.waiting.front(), self.idle.last()) {
                    self.waiting.pop_front();
                    self.idle.pop();
                    self.send(at, due)?;
                }
            } else if self.args.stream {
                for at in 0..self.conns.len() {
                    if let State::Pausing { until } = self.conns[at].state {
                        if until <= now {
                            self.send(at, Instant::now())?;
                        } else {
                            wake = wake.min(until);
                        }
                    }
                }
            }
            let wait = wake
                .saturating_duration_since(Instant::now())
                .max(Duration::from_nanos(1));
            self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(wait)),
                TimerSetTimeFlags::empty(),
            )?;
            let n_events = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => 0,
                other => other.context("cannot wait for answers")?,
            };
            for event in &events[..n_events] {
                // The timer is set anew in each turn, which also forgets that it rang.
                if event.data() != TIMER {
                    self.read(event.data() as usize)?;
                }
            }
        }
        self.found.seconds = self.args.seconds;
        self.found.cpu_seconds = process::cpu_seconds(&self.args.pid) - cpu.0;
        self.found.load_cpu_seconds = process::own_cpu_seconds() - cpu.1;
        self.found.resident_bytes = process::resident_bytes(&self.args.pid);
        self.found.open_streams = self.n_open() as u64;
        self.found.not_sent += self.waiting.len() as u64;
        self.found.latency_us = Percentiles::of(self.latencies);
        self.found.first_us = Percentiles::of(self.firsts);
        self.found.gap_us = Percentiles::of(self.gaps);
        Ok(self.found)
    }

    /// Streams that have begun and not ended.
    fn n_open(&self) -> usize {
        let is_open = |conn: &&Conn| matches!(conn.state, State::Streaming { .. });
        self.conns.iter().filter(is_open).count()
    }

    /// Times between requests of many independent clients (exponential).
    fn interval(&mut self, rate: f64) -> Duration {
        let even = (f64::from(self.random.next_u32()) + 1.0) / (f64::from(u32::MAX) + 2.0);
        Duration::from_secs_f64(-even.ln() / rate)
    }

    fn pause(&mut self, at: usize, now: Instant) {
        let ms = self.random.below(PAUSE_MAX_MS);
        self.conns[at].state = State::Pausing {
            until: now + Duration::from_millis(u64::from(ms)),
        };
    }

    fn send(&mut self, at: usize, since: Instant) -> anyhow::Result<()> {
        let conn = &mut self.conns[at];
        conn.buffer.clear();
        conn.state = State::Waiting { since };
        match conn.stream.write(&self.request) {
            Ok(length) if length == self.request.len() => Ok(()),
            Ok(_) => bail!("a request did not fit the socket's buffer"),
            Err(error) => self.failed(at, &error.to_string()),
        }
    }

    /// Counts, and goes on with a new connection.
    fn failed(&mut self, at: usize, why: &str) -> anyhow::Result<()> {
        self.found.errors += 1;
        if self.found.errors <= ERRORS_TOLD {
            let _ = writeln!(std::io::stderr(), "load: {why}");
        }
        if self.found.errors > 100 + self.found.requests {
            bail!("most requests fail: {why}");
        }
        let stream = self.connect(at)?;
        self.conns[at].stream = stream;
        self.next(at)
    }

    /// The connection is free: for the next one due, or to ask again.
    fn next(&mut self, at: usize) -> anyhow::Result<()> {
        if self.args.stream {
            self.pause(at, Instant::now());
            return Ok(());
        }
        if self.args.rate.is_none() {
            return self.send(at, Instant::now());
        }
        if let Some(due) = self.waiting.pop_front() {
            return self.send(at, due);
        }
        self.conns[at].state = State::Idle;
        self.idle.push(at);
        Ok(())
    }

    fn read(&mut self, at: usize) -> anyhow::Result<()> {
        let mut bytes = [0; 16 * 1024];
        let conn = &mut self.conns[at];
        let length = match conn.stream.read(&mut bytes) {
            Ok(0) => return self.failed(at, "the server closed a connection"),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return self.failed(at, &error.to_string()),
        };
        let now = Instant::now();
        conn.buffer.extend_from_slice(&bytes[..length]);
        if conn.buffer.len() > ANSWER_BYTES_MAX {
            bail!("an answer is longer than {ANSWER_BYTES_MAX} bytes");
        }
        match conn.state {
            State::Idle | State::Pausing { .. } => self.failed(at, "bytes came that were not asked for"),
            State::Waiting { since } => match whole(&conn.buffer) {
                Err(why) => self.failed(at, &why),
                Ok(Read::Head { body }) if self.args.stream && body > 0 => {
                    self.streamed(at, since, now, false)
                }
                Ok(Read::Head { .. } | Read::Part) => Ok(()),
                Ok(Read::Whole) => {
                    self.answered(since, now);
                    self.next(at)
                }
            },
            State::Streaming {
                since,
                last,
                has_token,
            } => {
                keep(&mut self.gaps, self.is_counting, now - last);
                self.streamed(at, since, now, has_token)
            }
        }
    }

    /// A stream goes on, or ends with the last chunk.
    fn streamed(&mut self, at: usize, since: Instant, now: Instant, had_token: bool) -> anyhow::Result<()> {
        let conn = &mut self.conns[at];
        let has_token = had_token || holds_token(&conn.buffer);
        if has_token && !had_token {
            keep(&mut self.firsts, self.is_counting, now - since);
        }
        conn.state = State::Streaming {
            since,
            last: now,
            has_token,
        };
        if !conn.buffer.ends_with(b"\r\n0\r\n\r\n") {
            return Ok(());
        }
        if memmem::find(&conn.buffer, b"[DONE]").is_none() {
            return self.failed(at, "a stream ended early");
        }
        if !has_token {
            return self.failed(at, "a stream ended without a token");
        }
        self.answered(since, now);
        self.next(at)
    }

    fn answered(&mut self, since: Instant, now: Instant) {
        if self.is_counting {
            self.found.requests += 1;
        }
        keep(&mut self.latencies, self.is_counting, now - since);
    }
}

fn keep(samples: &mut Vec<u64>, is_counting: bool, sample: Duration) {
    if is_counting && samples.len() < SAMPLES_MAX {
        samples.push(u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX));
    }
}

fn request(args: &LoadArgs) -> Vec<u8> {
    let mut body = serde_json::json!({"model": args.model, "temperature": 0.2, "max_tokens": 200, "messages": [
        {"role": "system", "content": "You are a patient teacher of rivers."},
        {"role": "user", "content": QUESTION}]});
    if args.stream {
        body["stream"] = true.into();
        // Slow streams shall be as long as the model's name asks.
        if let Some(fields) = body.as_object_mut() {
            fields.remove("max_tokens");
        }
    }
    let body = body.to_string();
    let further: String = args.header.iter().map(|header| format!("{header}\r\n")).collect();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         accept: */*\r\nuser-agent: weir-bench\r\n{further}content-length: {}\r\n\r\n{body}",
        args.target,
        args.key,
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_in_microseconds() {
        let found = Percentiles::of((1..=100).rev().map(|n| n * 1000).collect());
        assert_eq!((found.p50, found.p99, found.samples), (51.0, 100.0, 100));
        let found = Percentiles::of(Vec::new());
        assert_eq!((found.p50, found.p99, found.samples), (0.0, 0.0, 0));
    }
}
