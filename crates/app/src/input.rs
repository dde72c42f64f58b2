//! The inputs of `weir read FILE…`: opened, unpacked, and handed on packet by packet.
//!
//! Files are read one after another in the order given, not merged by time: time stamps of
//! separate captures often overlap by accident or come from clocks that disagree, and the flow
//! table keeps apart what is apart in time anyway. Whoever wants one order merges first
//! (`mergecap`).
//!
//! Bytes come by `read` into one buffer, not by mapping the file: that also serves pipes, cannot
//! fault when a file is truncated under us, and is faster: framing 115 MB through a buffer
//! took 0.4 to 0.7 of the time of walking them as one slice, copies included, since headers are
//! then found in the processor's cache.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use inspect::capfile::{Format, Interface, PacketRef, Reader, ReaderStats, Step};

/// Bytes asked for at a time; 256 KiB to 512 KiB measured best, 1 MiB falls out of the cache. A
/// longer packet makes the buffer grow, up to capfile's limits.
const BUFFER_LEN: usize = 512 * 1024;
const COMPRESSED_BUFFER_LEN: usize = 256 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What one input gave. `error` is the reason to exit with 1; the counts hold all the same.
#[derive(Debug)]
pub(crate) struct InputReport {
    /// The path as given, `standard input` for `-`.
    pub(crate) name: String,
    /// The format, once known.
    pub(crate) format: Option<Format>,
    /// Whether it was gzip data; offsets in `error` then count unpacked bytes.
    pub(crate) compressed: bool,
    /// Sum of the packets' original lengths in bytes.
    pub(crate) wire_bytes: u64,
    /// Sum of the captured lengths in bytes.
    pub(crate) captured_bytes: u64,
    /// Packets and what was passed over.
    pub(crate) stats: ReaderStats,
    /// Why reading ended before the input did, naming input and offset. Print with `{:#}`.
    pub(crate) error: Option<anyhow::Error>,
}

/// One packet and where it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) packet: PacketRef<'a>,
    /// The interface that `packet.interface_id` names.
    pub(crate) interface: Option<&'a Interface>,
}

/// Reads `inputs` in order (`-` is standard input) and calls `on_packet` with each packet and the
/// index of its input, until that breaks. Gives one report for each input begun.
///
/// A broken or missing input does not keep the next one from being read.
pub(crate) fn read_inputs(
    inputs: &[PathBuf],
    mut on_packet: impl FnMut(&Input<'_>, usize) -> ControlFlow<()>,
) -> Vec<InputReport> {
    let mut buffer = Vec::new();
    let mut reports = Vec::with_capacity(inputs.len());
    for (input_index, path) in inputs.iter().enumerate() {
        let on_packet = |packet: &Input<'_>| on_packet(packet, input_index);
        let (report, flow) = if path.as_os_str() == "-" {
            read_input(
                "standard input".to_owned(),
                io::stdin().lock(),
                &mut buffer,
                on_packet,
            )
        } else {
            match File::open(path) {
                Ok(file) => read_input(name(path), file, &mut buffer, on_packet),
                Err(error) => (InputReport::unopened(path, error), ControlFlow::Continue(())),
            }
        };
        reports.push(report);
        if flow.is_break() {
            break;
        }
    }
    reports
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

impl InputReport {
    fn new(name: String) -> Self {
        Self {
            name,
            format: None,
            compressed: false,
            wire_bytes: 0,
            captured_bytes: 0,
            stats: ReaderStats::default(),
            error: None,
        }
    }

    fn unopened(path: &Path, error: io::Error) -> Self {
        let error = anyhow::Error::new(error).context(format!("cannot open {}", path.display()));
        Self {
            error: Some(error),
            ..Self::new(name(path))
        }
    }
}

/// Reads one input to its end, to its first error, or until `on_packet` breaks.
fn read_input(
    name: String,
    mut source: impl Read,
    buffer: &mut Vec<u8>,
    mut on_packet: impl FnMut(&Input<'_>) -> ControlFlow<()>,
) -> (InputReport, ControlFlow<()>) {
    let mut report = InputReport::new(name);
    let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
    let sniffed = source
        .by_ref()
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut magic);
    if let Err(error) = sniffed {
        report.error = Some(cannot_read(error, &report, 0));
        return (report, ControlFlow::Continue(()));
    }
    report.compressed = magic == GZIP_MAGIC;
    let source = Cursor::new(magic).chain(source);
    let result = if report.compressed {
        let packed = BufReader::with_capacity(COMPRESSED_BUFFER_LEN, source);
        read_packets(MultiGzDecoder::new(packed), buffer, &mut report, &mut on_packet)
    } else {
        read_packets(source, buffer, &mut report, &mut on_packet)
    };
    match result {
        Ok(flow) => (report, flow),
        Err(error) => {
            report.error = Some(error);
            (report, ControlFlow::Continue(()))
        }
    }
}

/// The loop: fill the buffer, take packets off its front, move the rest of a packet to the front.
fn read_packets(
    mut source: impl Read,
    buffer: &mut Vec<u8>,
    report: &mut InputReport,
    on_packet: &mut impl FnMut(&Input<'_>) -> ControlFlow<()>,
) -> anyhow::Result<ControlFlow<()>> {
    let mut reader = Reader::new();
    buffer.resize(BUFFER_LEN, 0);
    let mut filled_len = 0;
    loop {
        let count = match source.read(&mut buffer[filled_len..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(cannot_read(error, report, reader.offset() + filled_len as u64));
            }
        };
        if count == 0 {
            return match reader.finish(&buffer[..filled_len]) {
                Ok(()) => Ok(ControlFlow::Continue(())),
                Err(error) => Err(error).with_context(|| place(report)),
            };
        }
        filled_len += count;
        let mut rest = &buffer[..filled_len];
        let at_least = loop {
            match reader.next(&mut rest) {
                Ok(Step::Packet(packet)) => {
                    report.wire_bytes += u64::from(packet.orig_len);
                    report.captured_bytes += packet.data.len() as u64;
                    let interface = reader.interfaces().get(packet.interface_id as usize);
                    if on_packet(&Input { packet, interface }).is_break() {
                        note_progress(report, &reader);
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(Step::NeedMore { at_least }) => break at_least,
                Err(error) => {
                    note_progress(report, &reader);
                    return Err(error).with_context(|| place(report));
                }
            }
        };
        note_progress(report, &reader);
        let rest_len = rest.len();
        buffer.copy_within(filled_len - rest_len..filled_len, 0);
        filled_len = rest_len;
        if filled_len == buffer.len() {
            // Doubled, not set to `at_least`, which may lie: memory follows what really came.
            buffer.resize((2 * filled_len).min(at_least), 0);
        }
    }
}

fn note_progress(report: &mut InputReport, reader: &Reader) {
    report.stats = reader.stats();
    report.format = reader.format().or(report.format);
}

fn place(report: &InputReport) -> String {
    if report.compressed {
        format!("{} (unpacked)", report.name)
    } else {
        report.name.clone()
    }
}

fn cannot_read(error: io::Error, report: &InputReport, offset: u64) -> anyhow::Error {
    let doing = if report.compressed {
        "cannot unpack the gzip data"
    } else {
        "cannot read"
    };
    anyhow::Error::new(error).context(format!("{}: {doing} at byte {offset}", place(report)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use inspect::capfile::PcapWriter;

    use super::*;

    const LINKTYPE_ETHERNET: u16 = 1;
    const LINKTYPE_USBPCAP: u16 = 249;

    /// A pcap file of packets of these lengths.
    fn pcap(linktype: u16, lengths: &[usize]) -> Vec<u8> {
        let mut writer = PcapWriter::new(linktype, 0);
        for (ts_ns, &length) in (0..).zip(lengths) {
            writer.packet(ts_ns, length as u32 + 4, &vec![7; length]);
        }
        writer.bytes().to_vec()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    }

    /// Hands out one byte more each time, up to `piece_len_max`: a pipe with a slow writer.
    struct Pieces<'a> {
        bytes: &'a [u8],
        piece_len: usize,
        piece_len_max: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.piece_len = self.piece_len % self.piece_len_max + 1;
            let length = self.piece_len.min(buffer.len());
            self.bytes.read(&mut buffer[..length])
        }
    }

    /// Lengths of the packets read from `bytes` given in small pieces, and the error if any.
    fn read_pieces(bytes: &[u8]) -> (Vec<usize>, InputReport) {
        let source = Pieces {
            bytes,
            piece_len: 0,
            piece_len_max: 3000,
        };
        let mut lengths = Vec::new();
        let (report, _) = read_input("in".to_owned(), source, &mut Vec::new(), |input| {
            lengths.push(input.packet.data.len());
            ControlFlow::Continue(())
        });
        assert_eq!(report.stats.packets, lengths.len() as u64);
        assert_eq!(report.captured_bytes, lengths.iter().sum::<usize>() as u64);
        assert_eq!(
            report.wire_bytes,
            report.captured_bytes + 4 * report.stats.packets
        );
        (lengths, report)
    }

    #[track_caller]
    fn check(bytes: &[u8], lengths: &[usize], compressed: bool, error: Option<&str>) {
        let (found, report) = read_pieces(bytes);
        assert_eq!(found, lengths);
        assert_eq!(report.compressed, compressed);
        assert_eq!(report.error.map(|error| format!("{error:#}")).as_deref(), error);
    }

    const LENGTHS: &[usize] = &[60, 1514, 0, 9000, 262_144, 1];

    #[test]
    fn plain_and_gzip_give_the_same() {
        let file = pcap(LINKTYPE_ETHERNET, LENGTHS);
        check(&file, LENGTHS, false, None);
        check(&gzip(&file), LENGTHS, true, None);
    }

    #[test]
    fn gzip_of_several_members() {
        let file = pcap(LINKTYPE_ETHERNET, LENGTHS);
        let (first, second) = file.split_at(1000);
        check(&[gzip(first), gzip(second)].concat(), LENGTHS, true, None);
    }

    #[test]
    fn what_is_readable_comes_before_the_error() {
        let file = pcap(LINKTYPE_ETHERNET, &[60, 60]);
        let cut = &file[..file.len() - 1];
        check(
            cut,
            &[60],
            false,
            Some(
                "in: at byte 100: the file is cut short: this record needs at least 76 bytes, \
                 75 are left",
            ),
        );
        check(
            &gzip(cut),
            &[60],
            true,
            Some(
                "in (unpacked): at byte 100: the file is cut short: this record needs at least \
                 76 bytes, 75 are left",
            ),
        );
        check(
            b"",
            &[],
            false,
            Some("in: at byte 0: the file is empty; expected a pcap or pcapng header"),
        );
        check(
            b"hello",
            &[],
            false,
            Some("in: at byte 0: expected a pcap or pcapng header, found the bytes 68 65 6c 6c"),
        );
    }

    #[test]
    fn broken_gzip_data() {
        let packed = gzip(&pcap(LINKTYPE_ETHERNET, &[60, 60]));
        let (lengths, report) = read_pieces(&packed[..packed.len() - 4]);
        assert_eq!(lengths, [60, 60]);
        let error = format!("{:#}", report.error.expect("a cut trailer"));
        assert!(
            error.starts_with("in (unpacked): cannot unpack the gzip data at byte 176: "),
            "{error}"
        );
    }

    #[test]
    fn packets_longer_than_the_buffer() {
        // PcapWriter cuts long packets, so this record is put together by hand.
        let length = 3 * BUFFER_LEN + 5;
        let mut file = pcap(LINKTYPE_USBPCAP, &[60]);
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&(length as u32).to_le_bytes());
        file.extend_from_slice(&(length as u32 + 4).to_le_bytes());
        file.resize(file.len() + length, 9);
        check(&file, &[60, length], false, None);
    }

    #[test]
    fn a_lying_length_takes_no_memory() {
        let mut file = pcap(LINKTYPE_USBPCAP, &[60]);
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&(100 * 1024 * 1024u32).to_le_bytes());
        file.extend_from_slice(&[0; 4]);
        let mut buffer = Vec::new();
        let (report, _) = read_input("in".to_owned(), &file[..], &mut buffer, |_| {
            ControlFlow::Continue(())
        });
        assert!(report.error.is_some());
        assert_eq!(buffer.len(), BUFFER_LEN);
    }

    #[test]
    fn many_inputs_in_order_with_a_bad_one_between() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), pcap(LINKTYPE_ETHERNET, &[1, 2])).expect("room");
        std::fs::write(path("b"), gzip(&pcap(LINKTYPE_ETHERNET, &[3]))).expect("room");
        let inputs = [path("a"), path("missing"), folder.path().to_owned(), path("b")];
        let mut found = Vec::new();
        let reports = read_inputs(&inputs, |input, input_index| {
            found.push((input_index, input.packet.data.len()));
            ControlFlow::Continue(())
        });
        assert_eq!(found, [(0, 1), (0, 2), (3, 3)]);
        let errors: Vec<_> = reports
            .iter()
            .map(|report| {
                report
                    .error
                    .as_ref()
                    .map_or_else(String::new, |e| format!("{e:#}"))
            })
            .collect();
        let folder = folder.path().display();
        assert_eq!(
            errors,
            [
                String::new(),
                format!("cannot open {folder}/missing: No such file or directory (os error 2)"),
                format!("{folder}: cannot read at byte 0: Is a directory (os error 21)"),
                String::new(),
            ]
        );
        assert_eq!(reports[3].format, Some(Format::PcapNano));

        let reports = read_inputs(&inputs, |_, _| ControlFlow::Break(()));
        assert_eq!(reports.len(), 1, "no input is begun after a break");
        assert_eq!((reports[0].stats.packets, reports[0].error.is_some()), (1, false));
    }
}
