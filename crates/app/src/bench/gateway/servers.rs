//! The programs that are measured, each started in a folder and on ports of its own, all in one network namespace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::peers::{LITELLM_PROGRAM, PORTKEY_PROGRAM};
use super::process;

/// The simulator demands it.
const PROVIDER_KEY: &str = "sk-sim";
/// How long a program may take until it serves. LiteLLM imports for tens of seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// Ports in the namespace, where nobody else is.
const WEIR: &str = "127.0.0.1:8080";
const WEIR_ADMIN: &str = "127.0.0.1:9080";
const NGINX: &str = "127.0.0.1:8081";
const PORTKEY: &str = "127.0.0.1:8082";
const LITELLM: &str = "127.0.0.1:8083";
/// Weir's flow accounting runs on an interface where nothing flows, so that no packet of the bench pays for it.
const INTERFACE: &str = "bench0";
/// Of plain calls; the simulator answers them from memory.
pub(super) const MODEL: &str = "gpt-4o-mini";

/// A program that takes requests.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) key: String,
    pub(super) headers: Vec<String>,
    /// Before the model's name.
    model_prefix: &'static str,
    /// Of the process that was started and those below it.
    pub(super) pids: Vec<u32>,
    child: Child,
    log: PathBuf,
}

impl Server {
    pub(super) fn model(&self, name: &str) -> String {
        format!("{}{name}", self.model_prefix)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It ended, with the end of what it said.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, end_of(&self.log));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

/// Where programs are started.
#[derive(Debug)]
pub(super) struct Place {
    /// This program.
    own: PathBuf,
    /// For what programs write; removed at the end.
    folder: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Place {
    /// Enters a network namespace of its own, with a loopback and an interface where nothing flows.
    ///
    /// # Errors
    /// Not root, or the namespace cannot be made.
    pub(super) fn enter() -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("weir run loads kernel programs and needs root: run `sudo weir bench gateway`");
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .context("cannot make a network namespace")?;
        ip(&["link", "set", "lo", "up"])?;
        // A pair of which nothing uses the other end: not every kernel has dummy interfaces.
        ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", "bench1"])?;
        ip(&["link", "set", INTERFACE, "up"])?;
        let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // The worker of weir is nobody.
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self {
            own: std::env::current_exe().context("cannot find the running program")?,
            folder,
        })
    }

    pub(super) fn own(&self) -> Command {
        Command::new(&self.own)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Starts a command and waits until its port takes connections.
    fn start(
        &self,
        name: &'static str,
        address: SocketAddr,
        command: &mut Command,
    ) -> anyhow::Result<Server> {
        let log = self.folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut server = Server {
            name,
            address,
            key: PROVIDER_KEY.to_owned(),
            headers: Vec::new(),
            model_prefix: "",
            pids: Vec::new(),
            child,
            log,
        };
        let begun = Instant::now();
        while TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            server.check()?;
            if begun.elapsed() > PATIENCE {
                bail!(
                    "{name} does not serve within {PATIENCE:?}: {}",
                    end_of(&server.log)
                );
            }
            std::thread::sleep(POLL);
        }
        server.pids = process::family(server.child.id());
        Ok(server)
    }

    /// The provider that everything stands before.
    pub(super) fn mock(&self) -> anyhow::Result<Server> {
        let log = self.folder.join("mock.log");
        let mut child = self
            .own()
            .args([
                "lab",
                "provider",
                "--fast",
                "--listen",
                "127.0.0.1:0",
                "--format",
                "json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot start the simulator")?;
        let mut line = String::new();
        let output = child.stdout.take().context("the simulator has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).context("the simulator did not tell its address")?;
        let address = told["listening"].as_str().and_then(|text| text.parse().ok());
        Ok(Server {
            name: "direct",
            address: address.context("the simulator told no address")?,
            key: PROVIDER_KEY.to_owned(),
            headers: Vec::new(),
            model_prefix: "",
            pids: process::family(child.id()),
            child,
            log,
        })
    }

    /// Weir with a key, limits, prices and records of calls.
    pub(super) fn weir(&self, mock: SocketAddr) -> anyhow::Result<Server> {
        let data = self.folder.join("data");
        let config = format!(
            "agent: {{ interfaces: [{INTERFACE}], flow_rows: 1024 }}\n\
             control: {{ listen: \"{WEIR_ADMIN}\" }}\n\
             store: {{ data: {data} }}\n\
             gateway:\n  listen: [\"{WEIR}\"]\n  connections_per_source_max: 8192\n  \
             limits: [{{ concurrency: 100000, per: all }}]\n\
             providers:\n  - name: sim\n    kind: openai_compatible\n    price_as: openai\n    \
             base_url: http://{mock}/v1\n    keys: [{{ value: {PROVIDER_KEY} }}]\n\
             consumers:\n  - name: bench\n    team: bench\n    limits:\n      \
             - {{ requests: 1000000/s, per: key }}\n      - {{ tokens: 1000M/h }}\n",
            data = data.display()
        );
        let config = self.write("weir.yaml", &config)?;
        let socket = self.folder.join("weir.sock");
        let instance = format!("bench{}", std::process::id());
        let mut server = self.start(
            "weir",
            WEIR.parse()?,
            self.own()
                .args(["run", "--instance", &instance, "-c"])
                .arg(config)
                .arg("--socket")
                .arg(&socket),
        )?;
        let begun = Instant::now();
        let key = loop {
            let made = self
                .own()
                .args(["key", "create", "--consumer", "bench", "--name", "load", "--api"])
                .arg(&socket)
                .output()?;
            if made.status.success() {
                break String::from_utf8_lossy(&made.stdout).trim().to_owned();
            }
            server.check()?;
            if begun.elapsed() > PATIENCE {
                bail!("no key of weir: {}", String::from_utf8_lossy(&made.stderr).trim());
            }
            std::thread::sleep(POLL);
        };
        server.key = key;
        server.model_prefix = "sim/";
        server.pids = process::family(server.child.id());
        Ok(server)
    }

    /// nginx that passes everything on; `None` if it is not installed.
    pub(super) fn nginx(&self, mock: SocketAddr) -> anyhow::Result<Option<Server>> {
        let Some(program) = installed("nginx") else {
            return Ok(None);
        };
        let folder = self.folder.join("nginx");
        std::fs::create_dir(&folder)?;
        let at = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {at}/{name};\n"))
            .collect();
        let config = format!(
            "daemon off;\nuser root;\nworker_processes 2;\npid {at}/pid;\nerror_log {at}/error.log;\n\
             worker_rlimit_nofile 65536;\nevents {{ worker_connections 16384; }}\n\
             http {{\naccess_log off;\n{temporary}keepalive_requests 1000000000;\n\
             upstream mock {{ server {mock}; keepalive 1024; keepalive_requests 1000000000; }}\n\
             server {{ listen {NGINX} backlog=4096;\nlocation / {{ proxy_pass http://mock; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n}}\n"
        );
        let config = self.write("nginx/nginx.conf", &config)?;
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(config)
            .arg("-e")
            .arg(folder.join("error.log"));
        let mut server = self.start("nginx", NGINX.parse()?, &mut command)?;
        // The master listens before there are workers.
        std::thread::sleep(POLL);
        server.pids = process::family(server.child.id());
        Ok(Some(server))
    }

    pub(super) fn portkey(&self, mock: SocketAddr, cache: &Path) -> anyhow::Result<Option<Server>> {
        let program = cache.join(PORTKEY_PROGRAM);
        let (true, Some(node)) = (program.is_file(), installed("node")) else {
            return Ok(None);
        };
        let address: SocketAddr = PORTKEY.parse()?;
        let mut command = Command::new(node);
        command
            .arg(program)
            .arg(format!("--port={}", address.port()))
            .arg("--headless")
            .env("NODE_ENV", "production");
        let mut server = self.start("portkey", address, &mut command)?;
        server.headers = vec![
            "x-portkey-provider: openai".to_owned(),
            format!("x-portkey-custom-host: http://{mock}/v1"),
        ];
        Ok(Some(server))
    }

    pub(super) fn litellm(&self, mock: SocketAddr, cache: &Path) -> anyhow::Result<Option<Server>> {
        let program = cache.join(LITELLM_PROGRAM);
        if !program.is_file() {
            return Ok(None);
        }
        let config = format!(
            "model_list:\n  - model_name: \"*\"\n    litellm_params: {{ model: \"openai/*\", \
             api_base: \"http://{mock}/v1\", api_key: {PROVIDER_KEY} }}\n\
             general_settings: {{ master_key: {PROVIDER_KEY} }}\n"
        );
        let config = self.write("litellm.yaml", &config)?;
        let address: SocketAddr = LITELLM.parse()?;
        let mut command = Command::new(program);
        command
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &address.port().to_string(),
                "--config",
            ])
            .arg(config)
            .args(["--telemetry", "False"])
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("LITELLM_LOG", "ERROR");
        self.start("litellm", address, &mut command).map(Some)
    }
}

pub(super) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name));
    found.find(|path| path.is_file())
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run ip")?;
    if !output.status.success() {
        let _ = std::io::stderr().write_all(&output.stderr);
        bail!("ip {} failed", arguments.join(" "));
    }
    Ok(())
}
