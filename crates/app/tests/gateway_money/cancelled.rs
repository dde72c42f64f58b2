//! Calls that their clients leave: what is recorded of them is an estimate, and near the truth.
//!
//! The truth is the journal's: the prompt, and the tokens that the provider had handed out when it saw
//! that nobody listened any more.

use std::collections::HashMap;
use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::{Value, json};

use super::common::gateway::{CLIENT_KEY, Draw, Gateway, PROVIDER_KEY, begin, own_network, pusd, wait_for};
use super::common::simulator::Simulator;

const CALLS: usize = 400;
const THREADS: usize = 8;
/// Of each token, in units of 10^-12 dollars.
const INPUT_PUSD: u64 = 3_000_000;
const OUTPUT_PUSD: u64 = 15_000_000;
/// A stream that goes on until it is left.
const MODEL: &str = "sim-drip-3";

const PROVIDERS: [&str; 4] = ["openai", "anthropic", "gemini", "cohere"];
const FORMATS: [&str; 4] = ["chat", "responses", "messages", "generateContent"];

/// Something to say, in scripts whose letters are of one, two and three bytes.
const SENTENCES: [&str; 3] = [
    "The weir holds back what the river brings, and lets the rest go on its way to the sea. ",
    "Плотина держит то что несёт река и пропускает остальное дальше к морю ",
    "水坝拦住河流带来的东西让其余的继续流向大海",
];

fn sections(simulator: &Simulator) -> String {
    let mut text = format!(
        "gateway:\n  listen: [\"127.0.0.1:8080\"]\n  catalogue:\n{}\
         consumers: [{{ name: shop, keys: [{{ value: {CLIENT_KEY} }}] }}]\n\
         providers:\n",
        PROVIDERS
            .map(|name| format!(
                "    - {{ provider: {name}, model: {MODEL}, mode: chat, \
                 usd_per_million: {{ input: \"3\", output: \"15\" }} }}\n"
            ))
            .concat()
    );
    for name in PROVIDERS {
        let base = match name {
            "gemini" => "/v1beta",
            "cohere" => "",
            _ => "/v1",
        };
        text.push_str(&format!(
            "  - {{ name: {name}, kind: {name}, base_url: \"http://{}{base}\", keys: [{{ value: {PROVIDER_KEY} }}] }}\n",
            simulator.addr
        ));
    }
    text
}

/// The path and the body of a call, and the number of events after which its client leaves.
fn call(number: usize) -> (String, Value, usize) {
    let mut draw = Draw(number as u64);
    let sentence = SENTENCES[draw.below(SENTENCES.len() as u64) as usize];
    let model = format!("{}/{MODEL}", PROVIDERS[number % PROVIDERS.len()]);
    let before = sentence.repeat(1 + draw.below(20) as usize);
    // Long enough for no call to end by itself.
    let text = format!("mark: c{number}\n{before}\nsay: {}", sentence.repeat(100));
    let turns = json!([{"role": "user", "content": text}]);
    let (path, body) = match FORMATS[number / PROVIDERS.len() % FORMATS.len()] {
        "chat" => (
            "/v1/chat/completions".to_owned(),
            json!({"model": model, "stream": true, "messages": turns}),
        ),
        "responses" => (
            "/v1/responses".to_owned(),
            json!({"model": model, "stream": true, "input": text}),
        ),
        "messages" => (
            "/v1/messages".to_owned(),
            json!({"model": model, "stream": true, "max_tokens": 60_000, "messages": turns}),
        ),
        _ => (
            format!(
                "/v1beta/models/{}:streamGenerateContent?alt=sse",
                model.replace('/', "%2F")
            ),
            json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
        ),
    };
    (path, body, 5 + draw.below(90) as usize)
}

/// Reads until so many events have come, and leaves. The id of the call.
fn read_and_leave(mut stream: TcpStream, n_events: usize) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n_read = stream.read(&mut buffer).expect("the stream goes on");
        assert!(
            n_read > 0,
            "the stream ended: {}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.extend_from_slice(&buffer[..n_read]);
        if memchr::memmem::find_iter(&bytes, "data: ").count() >= n_events {
            break;
        }
    }
    drop(stream);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let id = text.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    id.unwrap_or_else(|| panic!("no id in {text}")).to_owned()
}

fn tokens(journal: &Value, names: &[&str]) -> u64 {
    let counts = names
        .iter()
        .map(|name| journal["usage"][name].as_u64().unwrap_or(0));
    counts.sum()
}

#[test]
fn calls_that_are_left_cost_what_the_provider_had_made() {
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&["--key", PROVIDER_KEY]);
    let weir = Gateway::start(&sections(&simulator));
    let next = AtomicUsize::new(0);
    let ids: HashMap<String, usize> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            threads.push(scope.spawn(|| {
                let mut ids = Vec::new();
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= CALLS {
                        return ids;
                    }
                    let (path, body, n_events) = call(number);
                    let stream = begin(weir.addr, CLIENT_KEY, &path, &body);
                    ids.push((read_and_leave(stream, n_events), number));
                }
            }));
        }
        let ids = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a caller"));
        ids.collect()
    });
    assert_eq!(ids.len(), CALLS, "each has an id of its own");

    let records = weir.records(CALLS, &[]);
    let mut journal: HashMap<String, Value> = HashMap::new();
    wait_for("the provider has ended every call", || {
        let ended = simulator.calls(0).into_iter();
        journal = ended
            .map(|call| (call["mark"].as_str().unwrap_or_default().to_owned(), call))
            .collect();
        journal.len() >= CALLS
    });
    assert_eq!((records.len(), journal.len()), (CALLS, CALLS));
    let mut sums: HashMap<String, (u64, u64)> = HashMap::new();
    let mut errors: Vec<f64> = Vec::new();
    for record in &records {
        let id = record["request_id"].as_str().expect("an id");
        let number = ids[id];
        let truth = &journal[&format!("c{number}")];
        assert_eq!(
            (&record["outcome"], &record["estimated"], &truth["cancelled"]),
            (&json!("client_gone"), &json!(true), &json!(true)),
            "{record} {truth}"
        );
        let true_pusd = tokens(truth, &["input"]) * INPUT_PUSD + tokens(truth, &["output"]) * OUTPUT_PUSD;
        let told_pusd = pusd(&record["cost_usd"]);
        errors.push((told_pusd as f64 / true_pusd as f64 - 1.0).abs());
        let (format, script) = (
            FORMATS[number / PROVIDERS.len() % FORMATS.len()],
            Draw(number as u64).below(SENTENCES.len() as u64),
        );
        let output = (
            record["usage"]["output"].as_u64().expect("tokens") * OUTPUT_PUSD,
            tokens(truth, &["output"]) * OUTPUT_PUSD,
        );
        let sum = sums.entry("answers".to_owned()).or_default();
        *sum = (sum.0 + output.0, sum.1 + output.1);
        for name in [
            "all".to_owned(),
            format!("of {}", record["provider"]),
            format!("in {format}"),
            format!("in script {script}"),
        ] {
            let sum = sums.entry(name).or_default();
            *sum = (sum.0 + told_pusd, sum.1 + true_pusd);
        }
    }
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    let mut lines: Vec<String> = Vec::new();
    let mut worst = 0.0_f64;
    for (name, (told, truth)) in &sums {
        let off = *told as f64 / *truth as f64 - 1.0;
        worst = worst.max(off.abs());
        lines.push(format!("{name}: {:+.2} %", off * 100.0));
    }
    lines.sort();
    let said = format!("median error {:.2} %; sums: {}", median * 100.0, lines.join(", "));
    println!("{said}");
    assert!(median <= 0.05 && worst <= 0.05, "{said}");
}
