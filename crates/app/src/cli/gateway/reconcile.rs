//! `weir cost reconcile`: a provider's usage export beside our records.
//!
//! The export is CSV with a header, or JSON lines. Columns are found by their names: a day (`day`, `date`,
//! …), a model, tokens (in all, or of prompts and answers) and US dollars; day and at least one of tokens
//! and dollars must be there. Rows of the same day and model are added up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use llm::money::Money;
use serde_json::{Map, Value};

use super::super::EXIT_USAGE;
use super::super::text::Align::{Left, Right};
use super::cost::{ask, tokens};
use super::times::moment_ms;
use super::{RecordFormat, csv_line, put, say, table, text_of};
use crate::client::{ApiArgs, Client, runtime};

/// Longest export that is read.
const FILE_LEN_MAX: u64 = 256 << 20;
/// Days of one comparison: each is a question to the API.
const DAYS_MAX: usize = 366;

const DAY: [&str; 6] = ["day", "date", "usage_date", "start_time", "timestamp", "time"];
const MODEL: [&str; 4] = ["model", "model_name", "model_version", "snapshot_id"];
const TOKENS: [&str; 3] = ["tokens", "total_tokens", "n_tokens_total"];
const TOKENS_IN: [&str; 4] = [
    "input_tokens",
    "prompt_tokens",
    "n_context_tokens_total",
    "usage_input_tokens",
];
const TOKENS_OUT: [&str; 4] = [
    "output_tokens",
    "completion_tokens",
    "n_generated_tokens_total",
    "usage_output_tokens",
];
const USD: [&str; 6] = ["usd", "cost_usd", "cost", "amount", "amount_value", "spend"];

#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    /// The export: CSV with a header, or JSON lines
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Differences up to this share, in percent, are none
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    tolerance: f64,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    format: RecordFormat,
    #[command(flatten)]
    api: ApiArgs,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text
        .parse::<f64>()
        .ok()
        .filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| format!("expected a number from 0 to 100, found `{text}`"))
}

/// What was used; `None` where it is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    tokens: Option<u64>,
    pusd: Option<i128>,
}

/// By day and model.
type Usage = BTreeMap<(String, String), Used>;

pub(super) fn reconcile(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let theirs = match read(&args.file) {
        Ok(theirs) => theirs,
        Err(words) => {
            say(&format!("{}: {words}", args.file.display()));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let client = Client::new(&args.api)?;
    let ours = runtime()?.block_on(ours(&client, &theirs))?;
    let rows = compare(&theirs, &ours, args.tolerance);
    let fields = [
        "day",
        "model",
        "their_tokens",
        "our_tokens",
        "their_usd",
        "our_usd",
        "difference_usd",
        "is_different",
    ];
    put(&match args.format {
        RecordFormat::Json => rows.iter().map(|row| format!("{row}\n")).collect(),
        RecordFormat::Csv => {
            let lines = rows.iter().map(|row| {
                csv_line(
                    fields
                        .map(|field| text_of(&row[field]))
                        .iter()
                        .map(String::as_str),
                )
            });
            csv_line(fields) + &lines.collect::<String>()
        }
        RecordFormat::Table => table(
            &[
                ("DAY", Left),
                ("MODEL", Left),
                ("THEIR TOKENS", Right),
                ("OUR TOKENS", Right),
                ("THEIR USD", Right),
                ("OUR USD", Right),
                ("DIFFERENCE", Right),
                ("", Left),
            ],
            rows.iter()
                .map(|row| {
                    let mut cells: Vec<String> =
                        fields[..7].iter().map(|field| text_of(&row[*field])).collect();
                    cells.push(
                        if row["is_different"] == true {
                            "differs"
                        } else {
                            ""
                        }
                        .to_owned(),
                    );
                    cells
                })
                .collect(),
        ),
    })?;
    let n_different = rows.iter().filter(|row| row["is_different"] == true).count();
    say(&format!("{n_different} of {} rows differ", rows.len()));
    Ok(if n_different == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Our records of the days that the export has.
async fn ours(client: &Client, theirs: &Usage) -> anyhow::Result<Usage> {
    let mut ours = Usage::new();
    let mut days: Vec<&str> = theirs.keys().map(|(day, _)| day.as_str()).collect();
    days.dedup();
    for day in days {
        let since_ms = moment_ms(day).map_err(anyhow::Error::msg)?;
        let sums = ask(client, since_ms, Some(since_ms + 86_400_000), "model", &[]).await?;
        for row in sums["rows"].as_array().into_iter().flatten() {
            let model = text_of(&row["of"]);
            if model.is_empty() {
                continue;
            }
            let used = Used {
                tokens: Some(tokens(row, true).saturating_add(tokens(row, false))),
                pusd: row["cost_usd"].as_str().and_then(pusd),
            };
            ours.insert((day.to_owned(), model), used);
        }
    }
    Ok(ours)
}

fn compare(theirs: &Usage, ours: &Usage, tolerance_percent: f64) -> Vec<Value> {
    let keys: std::collections::BTreeSet<&(String, String)> = theirs.keys().chain(ours.keys()).collect();
    // An export without models has one row a day, which is compared with all our models.
    let has_models = theirs.keys().any(|(_, model)| !model.is_empty());
    let rows = keys.into_iter().filter_map(|key| {
        if !has_models && !key.1.is_empty() {
            return None;
        }
        let their = theirs.get(key).copied();
        let our = if has_models {
            ours.get(key).copied()
        } else {
            Some(
                ours.iter()
                    .filter(|((day, _), _)| *day == key.0)
                    .fold(Used::default(), |sum, (_, used)| sum.and(used)),
            )
        };
        let (their_or_none, our_or_none) = (their.unwrap_or_default(), our.unwrap_or_default());
        // Where one side has no row it has nothing; a column that the export lacks is not compared.
        let (has_tokens, has_usd) = theirs.values().fold((false, false), |(tokens, usd), used| {
            (tokens || used.tokens.is_some(), usd || used.pusd.is_some())
        });
        let differ = |theirs: f64, ours: f64| {
            let largest = theirs.abs().max(ours.abs());
            (theirs - ours).abs() > largest * tolerance_percent / 100.0
        };
        let tokens = (their_or_none.tokens.unwrap_or(0), our_or_none.tokens.unwrap_or(0));
        let usd = (their_or_none.pusd.unwrap_or(0), our_or_none.pusd.unwrap_or(0));
        let is_different = (has_tokens && tokens.0 != tokens.1 && differ(tokens.0 as f64, tokens.1 as f64))
            || (has_usd && usd.0 != usd.1 && differ(usd.0 as f64, usd.1 as f64));
        let money = |pusd: i128| store::calls::usd_text(pusd);
        Some(serde_json::json!({
            "day": key.0,
            "model": key.1,
            "their_tokens": has_tokens.then_some(tokens.0),
            "our_tokens": tokens.1,
            "their_usd": has_usd.then(|| money(usd.0)),
            "our_usd": money(usd.1),
            "difference_usd": has_usd.then(|| money(usd.0 - usd.1)),
            "is_different": is_different,
        }))
    });
    rows.collect()
}

impl Used {
    fn and(self, other: &Self) -> Self {
        let tokens = match (self.tokens, other.tokens) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        let pusd = match (self.pusd, other.pusd) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self { tokens, pusd }
    }
}

fn read(path: &std::path::Path) -> Result<Usage, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(FILE_LEN_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(format!(
            "longer than {FILE_LEN_MAX} bytes: expected a usage export"
        ));
    }
    usage_of(&text)
}

fn usage_of(text: &str) -> Result<Usage, String> {
    let text = text.trim_start_matches('\u{feff}');
    let rows = if text.trim_start().starts_with('{') {
        json_rows(text)?
    } else {
        csv_rows(text)?
    };
    let mut usage = Usage::new();
    for (line, row) in rows {
        let field = |names: &[&str]| {
            names
                .iter()
                .filter_map(|name| row.get(*name))
                .map(text_of)
                .find(|text| !text.is_empty())
        };
        let day =
            field(&DAY).ok_or_else(|| format!("line {line}: expected a column {}", DAY.join(" or ")))?;
        let day = day_of(&day)
            .ok_or_else(|| format!("line {line}: expected a day as 2026-11-20, found `{day}`"))?;
        let count = |names: &[&str]| match field(names) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("line {line}: expected a number of tokens, found `{text}`")),
        };
        let (input, output) = (count(&TOKENS_IN)?, count(&TOKENS_OUT)?);
        let tokens = match (count(&TOKENS)?, input, output) {
            (Some(all), _, _) => Some(all),
            (None, None, None) => None,
            (None, input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        };
        let pusd = match field(&USD) {
            None => None,
            Some(text) => Some(
                pusd(&text)
                    .ok_or_else(|| format!("line {line}: expected US dollars, as 0.0125, found `{text}`"))?,
            ),
        };
        if tokens.is_none() && pusd.is_none() {
            return Err(format!(
                "line {line}: expected a column {} or {}",
                TOKENS.join(" or "),
                USD.join(" or ")
            ));
        }
        let used: &mut Used = usage.entry((day, field(&MODEL).unwrap_or_default())).or_default();
        *used = used.and(&Used { tokens, pusd });
    }
    if usage.is_empty() {
        return Err("expected rows, found none".to_owned());
    }
    let mut days: Vec<&String> = usage.keys().map(|(day, _)| day).collect();
    days.dedup();
    if days.len() > DAYS_MAX {
        return Err(format!("{} days: expected {DAYS_MAX} or less", days.len()));
    }
    Ok(usage)
}

fn pusd(text: &str) -> Option<i128> {
    text.trim()
        .trim_start_matches('$')
        .parse::<Money>()
        .ok()
        .map(|money| money.pico_usd().into())
}

/// The day of a date, a time, or seconds since 1970.
fn day_of(text: &str) -> Option<String> {
    if let Ok(seconds) = text.parse::<i64>() {
        let moment = jiff::Timestamp::from_second(seconds).ok()?;
        return Some(moment.to_string()[..10].to_owned());
    }
    let day = text.get(..10)?;
    day.parse::<jiff::civil::Date>().ok()?;
    Some(day.to_owned())
}

type Rows = Vec<(usize, Map<String, Value>)>;

fn json_rows(text: &str) -> Result<Rows, String> {
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(at, line)| match serde_json::from_str(line) {
        Ok(Value::Object(row)) => Ok((at, row)),
        Ok(_) => Err(format!("line {at}: expected an object")),
        Err(error) => Err(format!("line {at}: not JSON: {error}")),
    });
    rows.collect()
}

fn csv_rows(text: &str) -> Result<Rows, String> {
    let mut records = csv_records(text)?.into_iter();
    let Some((_, header)) = records.next() else {
        return Err("expected a header, found nothing".to_owned());
    };
    let header: Vec<String> = header
        .iter()
        .map(|name| name.trim().to_lowercase().replace([' ', '-'], "_"))
        .collect();
    let rows = records.map(|(line, cells)| {
        if cells.len() != header.len() {
            return Err(format!(
                "line {line}: expected {} cells as in the header, found {}",
                header.len(),
                cells.len()
            ));
        }
        let row = header.iter().cloned().zip(cells.into_iter().map(Value::from));
        Ok((line, row.collect()))
    });
    rows.collect()
}

/// Records of CSV (RFC 4180), each with the line it begins on; empty lines are none.
fn csv_records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut records, mut cells, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut first_line, mut is_quoted) = (1, 1, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(std::mem::take(&mut cell)),
            '\n' if !is_quoted => {
                line += 1;
                if cell.ends_with('\r') {
                    cell.pop();
                }
                if !(cells.is_empty() && cell.is_empty()) {
                    cells.push(std::mem::take(&mut cell));
                    records.push((first_line, std::mem::take(&mut cells)));
                }
                first_line = line;
            }
            _ => {
                line += usize::from(character == '\n');
                cell.push(character);
            }
        }
    }
    if is_quoted {
        return Err(format!("line {first_line}: a quote has no end"));
    }
    if !(cells.is_empty() && cell.is_empty()) {
        cells.push(cell);
        records.push((first_line, cells));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(day: &str, model: &str) -> (String, String) {
        (day.to_owned(), model.to_owned())
    }

    fn used(tokens: Option<u64>, pusd: Option<i128>) -> Used {
        Used { tokens, pusd }
    }

    #[test]
    fn exports_are_read() {
        let csv = "Date,Model,Input Tokens,Output-Tokens,Cost\r\n2026-11-20,\"a,b\",10,5,$0.000000000001\r\n\r\n2026-11-20T10:00:00Z,\"a,b\",1,,2\r\n";
        let expected = Usage::from([(key("2026-11-20", "a,b"), used(Some(16), Some(2_000_000_000_001)))]);
        assert_eq!(usage_of(csv), Ok(expected.clone()));
        let json =
            "{\"start_time\": 1795132800, \"model\": \"a,b\", \"tokens\": 16, \"usd\": \"2.000000000001\"}\n";
        assert_eq!(usage_of(json), Ok(expected));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let check = |text: &str, expected: &str| {
            let error = usage_of(text).expect_err(text);
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        check("", "expected a header");
        check("day,usd\n", "expected rows");
        check("model,usd\nx,1\n", "line 2: expected a column day");
        check("day,usd\n2026-13-01,1\n", "line 2: expected a day");
        check("day,usd\n2026-11-20,much\n", "line 2: expected US dollars");
        check(
            "day,tokens\n2026-11-20,-1\n",
            "line 2: expected a number of tokens",
        );
        check("day,model\n2026-11-20,m\n", "line 2: expected a column tokens");
        check("day,usd\n2026-11-20\n", "line 2: expected 2 cells");
        check("day,usd\n\"2026-11-20,1\n", "line 2: a quote");
        check("{\"day\": 1}\n[1]\n", "line 2: expected an object");
        check("{\"day\": ", "line 1: not JSON");
    }

    #[test]
    fn differences() {
        let day = "2026-11-20";
        let theirs = Usage::from([
            (key(day, "a"), used(Some(100), Some(1_000))),
            (key(day, "b"), used(Some(100), Some(1_000))),
            (key(day, "c"), used(Some(1), Some(0))),
        ]);
        let ours = Usage::from([
            (key(day, "a"), used(Some(100), Some(1_000))),
            (key(day, "b"), used(Some(99), Some(1_000))),
            (key(day, "d"), used(Some(5), Some(5))),
        ]);
        let found = |tolerance| {
            let rows = compare(&theirs, &ours, tolerance);
            rows.iter()
                .map(|row| format!("{} {}", row["model"], row["is_different"]))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found(0.0),
            ["\"a\" false", "\"b\" true", "\"c\" true", "\"d\" true"]
        );
        assert_eq!(
            found(2.0),
            ["\"a\" false", "\"b\" false", "\"c\" true", "\"d\" true"]
        );
        // Without models, all of ours of the day together; without tokens, dollars alone.
        let days = Usage::from([(key(day, ""), used(None, Some(2_005)))]);
        let rows = compare(&days, &ours, 0.0);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (&rows[0]["is_different"], &rows[0]["our_tokens"]),
            (&Value::from(false), &Value::from(204))
        );
    }
}
