//! `weir read FILE…`: what is in capture files, by flow.
//!
//! Filters look at whole flows, so every packet of a flow that is shown is counted in it; the
//! totals of `summary` are those of the flows that pass, but for what belongs to no flow.

mod collect;
pub(in crate::cli) mod csv;
mod interfaces;
mod layer7;
mod one_flow;
mod story;
mod summary;
pub(in crate::cli) mod table;
mod tally;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use inspect::eve::{FlowEvent, RecordEvent};
use inspect::geo::Geo;
use inspect::json::JsonFlow;
use inspect::layer7::Event;
use inspect::record::{Context, FlowRecord};
use inspect::signature::Ruleset;
use inspect::table::{Config, EndedFlow, FlowTable, Frame, Totals};
use policy::filter::{Filter, Scope};
use wire::flow::HashKeys;

use super::EXIT_USAGE;
use crate::input::{InputReport, read_inputs};
use collect::{Collector, Sort};
use interfaces::Interfaces;

/// Flows a table shows unless told otherwise.
const TABLE_LIMIT: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// pcap or pcapng files, also gzipped; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only flows for which this holds, as 'dport == 443 and bytes > 1MB'
    #[arg(short = 'F', long, value_name = "EXPR")]
    filter: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Order, largest or latest first; without it json, eve and csv come in the order flows end
    #[arg(short, long, value_enum)]
    sort: Option<Sort>,
    /// Most flows to show; 0 is all. A table shows 50 by default, other formats all
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    /// Most flows in memory at once, 400 bytes each; beyond, those silent for longest end early
    #[arg(long, value_name = "N", default_value_t = Config::FLOWS_MAX)]
    flows_max: usize,
    /// Tell the story of the flow of this identifier, step by step
    #[arg(long, value_name = "ID", conflicts_with_all = ["filter", "sort", "limit", "format"])]
    flow: Option<u64>,
    /// Write the payload of the flow of this identifier, in order, to the file of -w
    #[arg(long, value_name = "ID", requires = "write", conflicts_with_all = ["flow", "filter", "sort", "limit", "format"])]
    extract: Option<u64>,
    /// Whose payload; without it both, as they came
    #[arg(long, value_enum, requires = "extract")]
    side: Option<one_flow::Side>,
    /// Where the payload goes; `-` is standard output
    #[arg(short, long, value_name = "FILE", requires = "extract")]
    write: Option<PathBuf>,
    /// Country or network database in MaxMind's format (MMDB), may be given more than once; without it
    /// those that are found are used
    #[arg(long, value_name = "FILE", env = "WEIR_GEOIP", value_delimiter = ':')]
    geoip: Vec<PathBuf>,
    /// Signatures to hold against the traffic, in Suricata's rule syntax, may be given more than once; those
    /// that ship are in eve and summary anyway
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Without the signatures that ship
    #[arg(long)]
    no_shipped_rules: bool,
    /// Seed of the community id
    #[arg(long, value_name = "N", default_value_t = 0)]
    community_id_seed: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns, the largest flows first
    Table,
    /// One object a line, with the names filters use
    Json,
    /// Suricata's EVE JSON, one event a line
    Eve,
    /// One line a flow, comma separated, with a header
    Csv,
    /// Totals, talkers, TCP health and oddities on one page
    Summary,
}

/// What a reading ends with, besides its flows.
struct Outcome {
    totals: Totals,
    inputs: Vec<InputReport>,
    /// Flows the filter kept out.
    n_filtered: u64,
    defrag: inspect::defrag::Counters,
    layer7: inspect::layer7::Counters,
    /// Records of layer 7 that found no room until their flow ended.
    n_records_lost: u64,
}

/// A flow that is over, with its records if they were held back until now.
struct Ended {
    record: FlowRecord,
    events: Vec<Event>,
}

/// Where flows go. `flow` is called as flows end, `event` as records come (with the name of their
/// interface), `finish` once.
trait Sink {
    fn flow(&mut self, flow: Ended) -> io::Result<()>;
    fn event(&mut self, event: &Event, interface: Option<&str>) -> io::Result<()> {
        let _ = (event, interface);
        Ok(())
    }
    fn finish(&mut self, outcome: &Outcome) -> io::Result<()>;
}

pub(crate) fn run(args: &ReadArgs) -> anyhow::Result<ExitCode> {
    let filter = match args.filter.as_deref().map(parse_filter).transpose() {
        Ok(filter) => filter,
        Err(message) => {
            writeln!(io::stderr(), "weir: --filter: {message}").context("cannot write to stderr")?;
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let geo = match crate::geo::load(&args.geoip) {
        Ok(geo) => geo,
        Err(error) => {
            writeln!(io::stderr(), "weir: --geoip: {error:#}").context("cannot write to stderr")?;
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let with_shipped = !args.no_shipped_rules && matches!(args.format, Format::Eve | Format::Summary);
    let signatures = match crate::signatures::load(&args.rules, with_shipped) {
        Ok(signatures) => signatures,
        Err(faults) => {
            for fault in faults.lines() {
                writeln!(io::stderr(), "weir: --rules: {fault}").context("cannot write to stderr")?;
            }
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    if let Some(id) = args.flow.or(args.extract) {
        let flow = one_flow::find(&args.files, table_config(args, true), &geo, id)?;
        match &args.write {
            Some(to) => one_flow::extract(&args.files, &flow, args.side, to)?,
            None => one_flow::tell(&args.files, &flow)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let out = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let mut sink = make_sink(args, out);
    match read(args, filter.as_ref(), &geo, signatures, sink.as_mut()) {
        Ok(outcome) => report(&outcome),
        // The reader of our output has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text)
        .and_then(|filter| filter.check_scope(Scope::Flow).map(|()| filter))
        .map_err(|error| error.render(text))
}

fn make_sink<'a>(args: &ReadArgs, out: impl Write + 'a) -> Box<dyn Sink + 'a> {
    let seed = args.community_id_seed;
    let limit = match args.limit {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => (args.format == Format::Table).then_some(TABLE_LIMIT),
    };
    match args.format {
        Format::Summary => Box::new(summary::Summary::new(out)),
        Format::Table => Box::new(Collector::new(
            args.sort.unwrap_or(Sort::Bytes),
            limit,
            table::Table::new(out),
        )),
        Format::Json => lines(args.sort, limit, out, move |out, record| {
            serde_json::to_writer(&mut *out, &JsonFlow::of(record, seed))?;
            out.write_all(b"\n")
        }),
        Format::Eve => match args.sort {
            Some(sort) => Box::new(Collector::new(
                sort,
                limit,
                Eve {
                    limit,
                    n: 0,
                    seed,
                    out,
                },
            )),
            None => Box::new(Eve {
                limit,
                n: 0,
                seed,
                out,
            }),
        },
        Format::Csv => {
            let mut writer = csv::Csv::new(seed);
            lines(args.sort, limit, out, move |out, record| {
                writer.write(out, record)
            })
        }
    }
}

/// A format of one line a flow: written as flows end, or collected first if they are to be sorted.
fn lines<'a, W: Write + 'a>(
    sort: Option<Sort>,
    limit: Option<usize>,
    out: W,
    write: impl FnMut(&mut W, &FlowRecord) -> io::Result<()> + 'a,
) -> Box<dyn Sink + 'a> {
    let lines = Lines {
        limit,
        n: 0,
        out,
        write,
    };
    match sort {
        Some(sort) => Box::new(Collector::new(sort, limit, lines)),
        None => Box::new(lines),
    }
}

struct Lines<W, F> {
    limit: Option<usize>,
    n: usize,
    out: W,
    write: F,
}

impl<W: Write, F: FnMut(&mut W, &FlowRecord) -> io::Result<()>> Sink for Lines<W, F> {
    fn flow(&mut self, flow: Ended) -> io::Result<()> {
        if self.limit.is_some_and(|limit| self.n >= limit) {
            return Ok(());
        }
        self.n += 1;
        (self.write)(&mut self.out, &flow.record)
    }

    fn finish(&mut self, _outcome: &Outcome) -> io::Result<()> {
        self.out.flush()
    }
}

/// Events of every type.
struct Eve<W> {
    limit: Option<usize>,
    n: usize,
    seed: u16,
    out: W,
}

impl<W: Write> Sink for Eve<W> {
    fn flow(&mut self, flow: Ended) -> io::Result<()> {
        if self.limit.is_some_and(|limit| self.n >= limit) {
            return Ok(());
        }
        self.n += 1;
        let interface = flow.record.interface.as_deref();
        for event in &flow.events {
            self.event(event, interface)?;
        }
        serde_json::to_writer(&mut self.out, &FlowEvent::of(&flow.record, self.seed))?;
        self.out.write_all(b"\n")
    }

    fn event(&mut self, event: &Event, interface: Option<&str>) -> io::Result<()> {
        let seed = self.seed;
        let event = RecordEvent {
            event,
            interface,
            seed,
        };
        serde_json::to_writer(&mut self.out, &event)?;
        self.out.write_all(b"\n")
    }

    fn finish(&mut self, _outcome: &Outcome) -> io::Result<()> {
        self.out.flush()
    }
}

/// Records of flows of which it is not known yet whether they are shown.
#[derive(Default)]
struct Held {
    by_flow: HashMap<u64, Vec<Event>>,
    n: usize,
    n_lost: u64,
}

impl Held {
    /// Records held at once; some hundred bytes each.
    const MAX: usize = 1 << 20;

    fn hold(&mut self, event: Event) {
        if self.n < Self::MAX {
            self.n += 1;
            self.by_flow.entry(event.flow_id).or_default().push(event);
        } else {
            self.n_lost += 1;
        }
    }

    fn take(&mut self, flow_id: u64) -> Vec<Event> {
        let events = self.by_flow.remove(&flow_id).unwrap_or_default();
        self.n -= events.len();
        events
    }
}

fn table_config(args: &ReadArgs, wants_records: bool) -> Config {
    Config {
        flows_max: args.flows_max,
        layer7: Some(inspect::layer7::Config {
            wants_records,
            ..inspect::layer7::Config::default()
        }),
        ..Config::new(random_keys())
    }
}

/// Reads every input to its end or its first fault, and hands flows to the sink as they end.
fn read(
    args: &ReadArgs,
    filter: Option<&Filter>,
    geo: &Geo,
    signatures: Option<Arc<Ruleset>>,
    sink: &mut dyn Sink,
) -> io::Result<Outcome> {
    let wants_records = matches!(args.format, Format::Eve | Format::Summary);
    let mut table = FlowTable::new(table_config(args, wants_records));
    if let (Some(engine), Some(signatures)) = (table.layer7(), signatures) {
        engine.set_signatures(signatures);
    }
    let mut interfaces = Interfaces::default();
    let mut n_filtered = 0;
    let mut written = Ok(());
    // A flow's records are told before it is known whether it is shown, unless all are.
    let are_held = filter.is_some() || args.sort.is_some() || args.limit.is_some_and(|limit| limit > 0);
    let mut held = Held::default();
    let mut hand_on = |table: &mut FlowTable, interfaces: &Interfaces, held: &mut Held| -> io::Result<()> {
        for event in table
            .layer7()
            .into_iter()
            .flat_map(inspect::layer7::Engine::take_events)
        {
            if are_held {
                held.hold(event);
            } else {
                sink.event(&event, interfaces.name(event.key.ifindex))?;
            }
        }
        for flow in table.take_ended() {
            let mut record = record(&flow, interfaces);
            record.insight = flow.insight;
            record.syn = flow.syn;
            record.locate(geo);
            let events = held.take(record.id);
            if filter.is_none_or(|filter| filter.eval(&record)) {
                sink.flow(Ended { record, events })?;
            } else {
                n_filtered += 1;
            }
        }
        Ok(())
    };
    let inputs = read_inputs(&args.files, |input, _| {
        let packet = &input.packet;
        table.add(&Frame {
            ts_ns: packet.ts_ns,
            linktype: packet.linktype.into(),
            interface: interfaces.number(packet.interface_id, input.interface),
            wire_len: packet.orig_len,
            data: packet.data,
        });
        if !table.has_ended() && !table.layer7().is_some_and(|engine| engine.has_events()) {
            return ControlFlow::Continue(());
        }
        written = hand_on(&mut table, &interfaces, &mut held);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    written?;
    table.finish();
    hand_on(&mut table, &interfaces, &mut held)?;
    let outcome = Outcome {
        totals: *table.totals(),
        inputs,
        n_filtered,
        defrag: *table.defrag(),
        layer7: table
            .layer7()
            .map(|engine| *engine.counters())
            .unwrap_or_default(),
        n_records_lost: held.n_lost,
    };
    sink.finish(&outcome)?;
    Ok(outcome)
}

fn record(flow: &EndedFlow, interfaces: &Interfaces) -> FlowRecord {
    let context = Context {
        interface: interfaces.name(flow.key.ifindex),
        reason: Some(flow.reason),
        ..Context::default()
    };
    FlowRecord::from_row(&flow.key, &flow.row, &context)
}

/// Words nobody outside can know, from the seed the standard library gives its hash maps.
fn random_keys() -> HashKeys {
    let state = RandomState::new();
    let mut words = [0; 14];
    for (at, word) in words.iter_mut().enumerate() {
        *word = state.hash_one(at) as u32;
    }
    HashKeys(words)
}

/// Says on stderr what went wrong and what is missing, and gives the exit code.
fn report(outcome: &Outcome) -> anyhow::Result<ExitCode> {
    let mut err = io::stderr().lock();
    let mut code = ExitCode::SUCCESS;
    if outcome.totals.evicted_flows > 0 {
        writeln!(
            err,
            "weir: {} flows ended early, since more than --flows-max were open at once; later packets \
             of theirs are in flows of their own",
            outcome.totals.evicted_flows
        )?;
    }
    let n_lost = outcome.n_records_lost + outcome.layer7.records_lost;
    if n_lost > 0 {
        writeln!(
            err,
            "weir: {n_lost} records are not shown, since more than {} waited for the end of their flows; \
             without --filter, --sort and --limit none has to wait",
            Held::MAX
        )?;
    }
    let errors = outcome.inputs.iter().filter_map(|input| input.error.as_ref());
    for error in errors {
        writeln!(err, "weir: {error:#}")?;
        if is_usage(error) {
            code = ExitCode::from(EXIT_USAGE);
        } else if code == ExitCode::SUCCESS {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Whether the input itself was the mistake, rather than what is in it.
fn is_usage(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| matches!(error.kind(), NotFound | PermissionDenied | IsADirectory))
}
