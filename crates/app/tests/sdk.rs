//! The official SDKs of OpenAI, Anthropic and Google as clients, unchanged: every format at every wire.
//! The cases are in tests/sdk; this starts the simulator and the gateway, and runs them.

use std::path::Path;
use std::process::Command;

mod common;
use common::gateway::{CLIENT_KEY, Gateway, SIMULATOR, own_network, providers, python};
use common::simulator::Simulator;

/// A gateway with a provider of each wire, twice: troubles asked for by the name of a model do not stop
/// what is asked of the others.
fn sections(simulator: &Simulator) -> String {
    let mut text = format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\n\
         consumers: [{{ name: shop, keys: [{{ value: {CLIENT_KEY} }}] }}]\n\
         models:\n\
         - {{ name: fast, targets: [{{ model: openai/gpt-4o-mini }}] }}\n\
         - {{ name: once-429, retries: 0, targets: [{{ model: retried-429/gpt-4o-mini }}] }}\n\
         - {{ name: once-503, retries: 0, targets: [{{ model: retried-503/gpt-4o-mini }}] }}\n\
         providers:\n"
    );
    text.push_str(&providers(simulator.addr, ""));
    text.push_str(&providers(simulator.addr, "ill-"));
    for status in [429, 503] {
        text.push_str(&format!(
            "  - {{ name: retried-{status}, kind: openai, base_url: \"http://{}/v1\", \
             keys: [{{ value: {} }}], breaker: {{ failures: 1000, open_ms: 1 }} }}\n",
            simulator.addr,
            common::gateway::PROVIDER_KEY
        ));
    }
    text
}

fn run(program: &Path, script: &str, gateway: &Gateway, simulator: &Simulator) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk");
    let output = Command::new(program)
        .arg(folder.join(script))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("WEIR_GATEWAY", format!("http://{}", gateway.addr))
        .env("WEIR_KEY", CLIENT_KEY)
        .env("WEIR_SIM", format!("http://{}", simulator.addr))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}{errors}");
    assert!(
        output.status.success(),
        "{script} failed; what weir said: {}",
        gateway.log()
    );
    assert!(said.contains(" 0 failed"), "no summary");
}

#[test]
fn python_sdks() {
    let Some(python) = python() else { return };
    if !own_network() {
        return;
    }
    let simulator = Simulator::start(&SIMULATOR);
    let gateway = Gateway::start(&sections(&simulator));
    run(&python, "run.py", &gateway, &simulator);
}

#[test]
fn node_sdks() {
    let Some(python) = python() else { return };
    if !own_network() {
        return;
    }
    let folder = python.ancestors().nth(3).expect("the folder of the SDKs");
    // Modules are found from where the script is.
    let script = folder.join("smoke.mjs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk/smoke.mjs");
    let wanted = std::fs::read(&source).expect("the script");
    if std::fs::read(&script).ok().as_ref() != Some(&wanted) {
        std::fs::write(&script, wanted).expect("copied");
    }
    let simulator = Simulator::start(&SIMULATOR);
    let gateway = Gateway::start(&sections(&simulator));
    run(
        Path::new("node"),
        script.to_str().expect("UTF-8"),
        &gateway,
        &simulator,
    );
}
