//! Names that lead to private addresses.

use super::*;
use common::upstream::Upstream;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Makes a file of names the one that this thread and what it starts resolve with.
fn own_names(file: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).expect("a namespace");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    mount(Some(file), "/etc/hosts", none, MsFlags::MS_BIND, none).expect("a mount");
}

#[test]
fn names_that_lead_to_private_addresses_are_refused() {
    if !own_network() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("hosts");
    let write = |moves_to: &str| {
        let text = format!(
            "127.0.0.1 localhost\n127.0.0.1 loop.test\n10.1.2.3 private.test\n169.254.169.254 metadata.test\n\
             ::1 six.test\nfd00::1 local-six.test\n9.9.9.9 public.test\n{moves_to} moves.test\n"
        );
        std::fs::write(&hosts, text).expect("written");
    };
    write("9.9.9.9");
    own_names(&hosts);
    // All of them are here.
    for address in ["9.9.9.9/32", "10.1.2.3/32", "169.254.169.254/32", "fd00::1/128"] {
        let added = std::process::Command::new("ip")
            .args(["addr", "add", address, "dev", "lo"])
            .status();
        assert!(added.expect("ip").success());
    }
    let start = |ip: &str, port: u16| {
        let ip: IpAddr = ip.parse().expect("an address");
        Upstream::start_at(SocketAddr::new(ip, port), None)
    };
    let public = start("9.9.9.9", 0);
    let port = public.addr.port();
    // Somebody listens wherever a name leads, on the same port.
    let inside = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1"].map(|ip| start(ip, port));
    let names = ["loop", "private", "metadata", "six", "local-six"];
    let (mut services, mut providers) = (String::new(), String::new());
    for name in names.into_iter().chain(["public", "moves"]) {
        services.push_str(&format!(
            "  - {{ name: {name}, auth: [none], routes: [{{ path: /{name}/*, retries: 0, breaker: {{ failures: 100000 }}, \
             upstreams: [{{ url: \"http://{name}.test:{port}\" }}] }}] }}\n"
        ));
        providers.push_str(&format!(
            "  - {{ name: {name}, kind: openai, base_url: \"http://{name}.test:{port}/v1\", keys: [{{ value: {PROVIDER_KEY} }}] }}\n"
        ));
    }
    let weir = Gateway::start(&format!(
        "gateway: {{ listen: [\"127.0.0.1:8080\"] }}\nservices:\n{services}providers:\n{providers}\
         consumers: [{{ name: shop, keys: [{{ value: {CLIENT_KEY} }}] }}]\n"
    ));
    let ask = |name: &str| http::get(weir.addr, &format!("/{name}/close"));
    for name in names {
        let answer = ask(name);
        let text = answer.text();
        assert_eq!(answer.status, 502, "{name}: {text}");
        // Nothing is said of the inside.
        for word in ["127.0.0.1", "10.1.2.3", "169.254", "fd00", "::1", ".test"] {
            assert!(!text.contains(word), "{name}: {text}");
        }
        let chat =
            json!({"model": format!("{name}/gpt-4o-mini"), "messages": [{"role": "user", "content": "hi"}]});
        let answer = weir.post("/v1/chat/completions", &chat).expect("an answer");
        let text = answer.text();
        assert!(
            answer.status == 502 && text.contains("provider_forbidden"),
            "{name}: {text}"
        );
    }
    assert_eq!((ask("public").status, ask("moves").status), (200, 200));
    assert_eq!(public.n_connections.load(Relaxed), 2);
    // A name that leads inside later on is refused from the next look at it on.
    write("127.0.0.1");
    let mut status = 0;
    wait_for("the name is looked at again", || {
        status = ask("moves").status;
        status != 200
    });
    assert_eq!(status, 502);
    assert_eq!(ask("public").status, 200);
    for one in &inside {
        assert_eq!(one.n_connections.load(Relaxed), 0, "{}", one.addr);
    }
}
