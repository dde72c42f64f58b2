//! The gateway's role in a run: what is prepared with privileges, and what runs without.
//!
//! Before the fork sockets are bound, and environment and files that documents name are read
//! ([`Prepared`]). The worker opens the stores in its own folder, compiles, and serves ([`Role`]).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use gateway::ai::pool::ProviderState;
use gateway::body::Patience;
use gateway::front::Front;
use gateway::live::Shared;
use gateway::numbers;
use gateway::server::tls::{CertificatePem, Certificates};
use gateway::server::{Counts, Listener, Server, ServerSettings};
use gateway::upstream::trust::Trust;
use policy::gateway::compile::Outside;
use policy::gateway::document::{self, Documents};
use serde::{Deserialize, Serialize};
use store::calls::{CallOptions, CallReader, Calls, LineTarget};
use store::documents::SqliteCatalogue;
use store::identity::Identities;
use store::ledger::{Budgets, BudgetsConfig, LedgerOptions, LedgerReader, SqliteLedger};
use store::seal::Sealer;

use super::admin::{AdminParts, CountedCalls, GatewayAdmin, KeyNumbers, ProviderNumbers};
use crate::config::gateway::{Process, Recorded};
use crate::run::handover::Handover;

/// Where the gateway listens unless told otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
/// Time that open requests have at the end.
pub(in crate::run) const DRAIN_DEFAULT: Duration = Duration::from_secs(30);
/// Time between looks at the keys of clients, which a successor may have revoked.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);
/// A log of calls turns over at this size, and so many old ones stay.
const LOG_MAX_BYTES: u64 = 256 << 20;
const LOG_FILES: u32 = 4;
/// Longest message of the broker about a changed file.
const RELOAD_MAX_BYTES: usize = 64 << 20;

/// What a configuration file says, with everything that it names elsewhere. Holds secrets.
#[derive(Serialize, Deserialize)]
pub(in crate::run) struct Told {
    documents: Documents,
    outside: Recorded,
    /// For each TLS listener.
    certificates: Vec<Vec<Pem>>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Pem {
    name: String,
    hosts: Vec<String>,
    chain: String,
    key: String,
}

impl Told {
    /// Reads what documents name.
    ///
    /// # Errors
    /// A certificate cannot be read.
    pub(in crate::run) fn new(documents: Documents) -> anyhow::Result<Self> {
        let outside = Recorded::of(&documents, &Process);
        let tls = documents.gateway.iter().flat_map(|gateway| &gateway.tls);
        let mut certificates = Vec::new();
        for tls in tls {
            let read = tls.certificates.iter().map(read_pem);
            certificates.push(read.collect::<anyhow::Result<Vec<_>>>()?);
        }
        Ok(Self {
            documents,
            outside,
            certificates,
        })
    }

    fn gateway(&self) -> document::Gateway {
        self.documents.gateway.clone().unwrap_or_default()
    }
}

fn read_pem(certificate: &document::Certificate) -> anyhow::Result<Pem> {
    let read = |path: &str| Process.file(path).map_err(anyhow::Error::msg);
    Ok(Pem {
        name: certificate.chain.clone(),
        hosts: certificate.hosts.clone(),
        chain: read(&certificate.chain)?,
        key: read(&certificate.key)?,
    })
}

/// What the gateway has from the time with privileges.
#[derive(Debug)]
pub(in crate::run) struct Prepared {
    told: Told,
    /// The name of the configuration file.
    file: String,
    instance: String,
    folder: PathBuf,
    /// Of `plain`, then of `tls`, as the file had it when they were bound.
    names: Vec<String>,
    plain: Vec<TcpListener>,
    tls: Vec<TcpListener>,
}

impl Prepared {
    /// Binds, reads, and makes the folder of the worker.
    ///
    /// # Errors
    /// One of them fails; the other roles go on.
    pub(in crate::run) fn new(
        told: Told,
        file: &str,
        instance: &str,
        data: &Path,
        owner: Option<u32>,
        handover: &mut Handover,
    ) -> anyhow::Result<Self> {
        let gateway = told.gateway();
        let listen = gateway.listen.clone().unwrap_or_else(|| {
            if gateway.tls.is_empty() {
                vec![LISTEN_DEFAULT.to_owned()]
            } else {
                Vec::new()
            }
        });
        let folder = data.join("gateway").join(instance);
        make_folder(data, &folder, owner)?;
        let addresses = listen.iter().chain(gateway.tls.iter().map(|tls| &tls.listen));
        let mut plain = Vec::new();
        let mut names = Vec::new();
        for address in addresses {
            match bind(address, handover) {
                Ok(socket) => plain.push(socket),
                Err(error) => {
                    // Another image may yet take over what the one before served.
                    handover.give_back(names.into_iter().zip(plain));
                    return Err(error);
                }
            }
            names.push(listener_name(address));
        }
        let tls = plain.split_off(listen.len());
        Ok(Self {
            told,
            file: file.to_owned(),
            instance: instance.to_owned(),
            folder,
            names,
            plain,
            tls,
        })
    }

    /// Descriptors that the worker keeps.
    pub(in crate::run) fn descriptors(&self) -> Vec<RawFd> {
        self.plain
            .iter()
            .chain(&self.tls)
            .map(AsRawFd::as_raw_fd)
            .collect()
    }

    /// The sockets by their names, for the next image.
    pub(in crate::run) fn named(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let sockets = self.plain.iter().chain(&self.tls).map(AsFd::as_fd);
        self.names.iter().cloned().zip(sockets).collect()
    }

    /// Where it listens, for people.
    pub(in crate::run) fn addresses(&self) -> Vec<String> {
        let show = |scheme: &str, listeners: &[TcpListener]| -> Vec<String> {
            let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
            addresses.map(|address| format!("{scheme}://{address}")).collect()
        };
        let mut all = show("http", &self.plain);
        all.extend(show("https", &self.tls));
        all
    }

    /// The configuration file.
    pub(in crate::run) fn file(&self) -> &str {
        &self.file
    }

    /// Refuses connections from here on, in every process that shares the sockets. For the end only: merely
    /// closed, they would listen as long as a worker drains, and a connection would wait in vain.
    pub(in crate::run) fn refuse(&self) {
        for socket in self.plain.iter().chain(&self.tls) {
            let _ = nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Read);
        }
    }

    /// Time that open requests have at the end.
    pub(in crate::run) fn drain(&self) -> Duration {
        drain(&self.told.gateway())
    }

    /// Takes what the file says now, for workers that are started later.
    pub(in crate::run) fn replace(&mut self, told: Told) {
        self.told = told;
    }
}

fn drain(gateway: &document::Gateway) -> Duration {
    gateway.drain_ms.map_or(DRAIN_DEFAULT, Duration::from_millis)
}

fn listener_name(address: &str) -> String {
    format!("gateway {address}")
}

fn bind(address: &str, handover: &mut Handover) -> anyhow::Result<TcpListener> {
    if let Some(inherited) = handover.listener(&listener_name(address)) {
        return Ok(inherited.into());
    }
    let parsed: SocketAddr = address.parse().with_context(|| {
        format!("gateway: expected an address and a port, as 127.0.0.1:8080, found `{address}`")
    })?;
    TcpListener::bind(parsed).with_context(|| format!("the gateway cannot listen on {parsed}"))
}

/// The worker is nobody: the folder is its own, those above may be passed through.
fn make_folder(data: &Path, folder: &Path, owner: Option<u32>) -> anyhow::Result<()> {
    let failed = |path: &Path| format!("cannot make {}", path.display());
    let above = folder.parent().unwrap_or(data);
    make_passable(above).with_context(|| failed(above))?;
    if let Some(owner) = owner
        && let Some((closed, mode)) = closed_to(above, owner)
    {
        bail!(
            "the data folder {} is below {}, which only its owner may pass through (mode {mode:04o}), and the \
             gateway's worker runs as nobody: allow it with `chmod o+x {}`, or name another folder under `store`, \
             as {{ data: /var/lib/weir }}",
            data.display(),
            closed.display(),
            closed.display()
        );
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| failed(folder));
        }
        _ => {}
    }
    if owner.is_some() {
        chown(folder, owner, owner).with_context(|| format!("cannot hand over {}", folder.display()))?;
    }
    Ok(())
}

/// Makes what is missing of a path, so that whoever knows a name in it may pass, whatever the umask.
fn make_passable(path: &Path) -> std::io::Result<()> {
    let mut missing: Vec<&Path> = Vec::new();
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    missing.extend(path.ancestors().take_while(is_missing));
    for path in missing.into_iter().rev() {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?,
        }
    }
    // What is no folder is told by its own words.
    std::fs::create_dir_all(path)
}

/// The first folder on the way to `path` that a user who is in no group may not pass, and its mode.
fn closed_to(path: &Path, user: u32) -> Option<(PathBuf, u32)> {
    let path = path.canonicalize().ok()?;
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    above.into_iter().find_map(|folder| {
        let found = std::fs::metadata(folder).ok()?;
        let mode = found.mode() & 0o7777;
        let needed = if found.uid() == user { 0o100 } else { 0o001 };
        (mode & needed == 0).then(|| (folder.to_owned(), mode))
    })
}

/// The gateway, running.
pub(in crate::run) struct Role {
    admin: Arc<GatewayAdmin>,
    server: Server,
    certificates: Vec<Arc<Certificates>>,
    identities: Arc<Identities>,
    drain: Duration,
    /// Last, so that what requests still settle is written.
    _budgets: Option<Arc<Budgets>>,
}

impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Role")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Role {
    /// Opens the stores, compiles and serves. Blocks while stores are opened.
    ///
    /// # Errors
    /// One sentence on what is missing; the other roles go on.
    pub(in crate::run) fn start(prepared: &Prepared) -> anyhow::Result<Self> {
        let folder = &prepared.folder;
        let gateway = prepared.told.gateway();
        let clock: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(now_ms);
        let sealer = Sealer::open(&folder.join("seal.key")).context("cannot open the key of secrets")?;
        let hasher = sealer.key_hasher();
        let identities =
            Identities::open(&folder.join("keys.sqlite")).context("cannot open the keys of clients")?;
        let identities = Arc::new(identities);
        let of_clients = Arc::clone(&identities);
        let catalogue = SqliteCatalogue::open(&folder.join("catalogue.sqlite"), sealer)
            .context("cannot open the catalogue")?;
        let ledger_path = folder.join("ledger.sqlite");
        let budgets = open_ledger(&ledger_path, &prepared.instance, &clock);
        let calls = Calls::start(call_options(&gateway, folder), Arc::clone(&clock))
            .context("cannot start the records of calls")?;
        let history = CallReader::open(&folder.join("calls")).context("cannot read the records of calls")?;
        let counted = Arc::new(CountedCalls::new(calls));
        let shared: Arc<OnceLock<Arc<Shared>>> = Arc::default();
        let counts: Arc<OnceLock<Arc<Counts>>> = Arc::default();
        let admin = GatewayAdmin::new(AdminParts {
            file: prepared.file.clone(),
            documents: prepared.told.documents.clone(),
            outside: Box::new(prepared.told.outside.clone()),
            catalogue: Box::new(catalogue),
            identities: Arc::clone(&identities),
            hasher: hasher.clone(),
            history: Some(history),
            ledger: budgets
                .as_ref()
                .and_then(|_| LedgerReader::open(&ledger_path).ok()),
            budgets: budgets.clone(),
            counted: Arc::clone(&counted),
            providers: Box::new({
                let shared = Arc::clone(&shared);
                move || {
                    shared
                        .get()
                        .map_or_else(Vec::new, |shared| provider_numbers(shared))
                }
            }),
            traffic: Box::new({
                let (shared, counts) = (Arc::clone(&shared), Arc::clone(&counts));
                move || {
                    let of_server = counts
                        .get()
                        .map_or_else(Vec::new, |counts| numbers::of_server(counts));
                    let of_tables = shared.get().map_or_else(Vec::new, |shared| shared.numbers());
                    [of_server, of_tables].concat()
                }
            }),
            publish: Box::new({
                let shared = Arc::clone(&shared);
                move |snapshot, catalogue| {
                    if let Some(shared) = shared.get() {
                        shared.publish(Arc::new(snapshot), Arc::new(catalogue));
                    }
                }
            }),
            now_ms: Box::new(now_ms),
        });
        let initial = match admin.initial() {
            Ok(initial) => initial,
            Err(faults) => bail!("the gateway's documents are wrong: {}", said(&faults)),
        };
        if !initial.faults.is_empty() {
            tracing::error!(
                "the gateway's documents are wrong, what was in force last stays: {}",
                said(&initial.faults)
            );
        }
        let trust = Trust::new(None).context("cannot set up TLS")?;
        let in_force = Shared::new(
            Arc::new(initial.snapshot),
            Arc::new(initial.catalogue),
            identities,
            hasher,
            budgets.clone(),
            counted,
            trust,
        );
        let in_force = Arc::new(in_force);
        let _ = shared.set(Arc::clone(&in_force));
        let (listeners, certificates) = listeners(prepared)?;
        let server = Server::start(listeners, server_settings(&gateway), move || {
            Front::new(Arc::clone(&in_force), random())
        })
        .context("cannot start the gateway")?;
        let _ = counts.set(Arc::clone(server.counts()));
        Ok(Self {
            admin: Arc::new(admin),
            server,
            certificates,
            identities: of_clients,
            drain: drain(&gateway),
            _budgets: budgets,
        })
    }

    /// What the admin API asks.
    pub(in crate::run) fn admin(&self) -> Arc<GatewayAdmin> {
        Arc::clone(&self.admin)
    }

    /// Certificates that can be replaced while it runs.
    pub(in crate::run) fn certificates(&self) -> Vec<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// Keys of clients as a successor changes them, until it is dropped.
    pub(in crate::run) fn follow_keys(&self) -> impl Future<Output = ()> + use<> {
        let identities = Arc::clone(&self.identities);
        async move {
            loop {
                if let Err(error) = identities.reload().await {
                    tracing::warn!(%error, "keys of clients cannot be read again");
                }
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        }
    }

    /// Takes no more connections, lets open requests end, and cuts what is left.
    pub(in crate::run) fn stop(self) {
        let report = self.server.shutdown(self.drain);
        if report.cut_requests > 0 {
            tracing::warn!(requests = report.cut_requests, "requests were cut at the end");
        }
    }
}

/// A ledger that cannot be opened leaves the gateway without budgets: those that have one are refused.
fn open_ledger(
    path: &Path,
    instance: &str,
    clock: &Arc<dyn Fn() -> i64 + Send + Sync>,
) -> Option<Arc<Budgets>> {
    let options = LedgerOptions::new(path, instance);
    let ledger = SqliteLedger::open(&options, now_ms());
    let budgets = ledger
        .and_then(|ledger| Budgets::start(Box::new(ledger), BudgetsConfig::default(), Arc::clone(clock)));
    match budgets {
        Ok(budgets) => Some(Arc::new(budgets)),
        Err(error) => {
            tracing::error!(%error, "the ledger cannot be opened: consumers with a budget are refused");
            None
        }
    }
}

fn call_options(gateway: &document::Gateway, folder: &Path) -> CallOptions {
    let calls = gateway.calls.clone().unwrap_or_default();
    let mut options = CallOptions::new(folder.join("calls"));
    if let Some(days) = calls.days {
        options.days_kept = days;
    }
    if let Some(size_mib) = calls.size_mib {
        options.bytes_kept = u64::from(size_mib) << 20;
    }
    options.lines = calls.log.map(|log| LineTarget::File {
        path: log.into(),
        bytes_max: LOG_MAX_BYTES,
        files_kept: LOG_FILES,
    });
    if calls.bodies == Some(true) {
        options.audit_bytes_max = Some(256 << 10);
    }
    options
}

fn server_settings(gateway: &document::Gateway) -> ServerSettings {
    let defaults = ServerSettings::default();
    let ms = |given: Option<u64>, default: Duration| given.map_or(default, Duration::from_millis);
    ServerSettings {
        connections_max: gateway
            .connections_max
            .map_or(defaults.connections_max, |n| n as usize),
        connections_per_source_max: gateway
            .connections_per_source_max
            .map_or(defaults.connections_per_source_max, |n| n as usize),
        header_timeout: ms(gateway.header_timeout_ms, defaults.header_timeout),
        idle_timeout: ms(gateway.idle_timeout_ms, defaults.idle_timeout),
        body_patience: Patience {
            grace: ms(gateway.body_timeout_ms, defaults.body_patience.grace),
            ..defaults.body_patience
        },
        body_bytes_max: gateway.body_max_bytes.unwrap_or(defaults.body_bytes_max),
        ..defaults
    }
}

fn certificate(pem: &Pem) -> CertificatePem {
    CertificatePem {
        name: pem.name.clone(),
        hosts: pem.hosts.clone(),
        chain: pem.chain.clone().into_bytes(),
        key: pem.key.clone().into_bytes(),
    }
}

fn listeners(prepared: &Prepared) -> anyhow::Result<(Vec<Listener>, Vec<Arc<Certificates>>)> {
    let mut listeners = Vec::new();
    for socket in &prepared.plain {
        listeners.push(Listener {
            socket: socket.try_clone()?,
            tls: None,
        });
    }
    let mut all = Vec::new();
    for (socket, pems) in prepared.tls.iter().zip(&prepared.told.certificates) {
        let pems: Vec<CertificatePem> = pems.iter().map(certificate).collect();
        let certificates = Arc::new(Certificates::new(&pems).context("a certificate cannot be used")?);
        all.push(Arc::clone(&certificates));
        listeners.push(Listener {
            socket: socket.try_clone()?,
            tls: Some(certificates),
        });
    }
    Ok((listeners, all))
}

fn provider_numbers(shared: &Shared) -> Vec<ProviderNumbers> {
    let live = shared.live();
    let now_ms = u64::try_from(now_ms()).unwrap_or(0);
    let states: &HashMap<Arc<str>, Arc<ProviderState>> = &live.providers;
    let of = live.snapshot.providers.values().filter_map(|provider| {
        let state = states.get(&provider.name)?;
        let keys = provider.keys.iter().map(|key| KeyNumbers {
            id: key.id.to_string(),
            state: state.key(key).status(now_ms).to_owned(),
        });
        Some(ProviderNumbers {
            name: provider.name.to_string(),
            kind: provider.preset.kind.to_owned(),
            is_open: state.is_open(now_ms),
            first_byte_us: Some(state.latency_us()).filter(|&us| us > 0),
            keys: keys.collect(),
        })
    });
    of.collect()
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Draws and ids need no secrecy: the clock does where the system has no randomness.
    let read = std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.map_or(now_ms() as u64, |()| u64::from_ne_bytes(bytes))
}

fn said(faults: &[(String, String)]) -> String {
    let said = faults.iter().map(|(field, words)| format!("{field}: {words}"));
    said.collect::<Vec<_>>().join("; ")
}

/// The broker tells the worker what the file says now, and waits for what becomes of it.
///
/// # Errors
/// What was in force stays: one sentence each.
pub(in crate::run) fn tell(stream: &mut UnixStream, told: &Told) -> anyhow::Result<Vec<String>> {
    let message = serde_json::to_vec(told).context("cannot write down the configuration")?;
    send(stream, &message).context("the worker does not listen")?;
    let answer = receive(stream).context("the worker does not answer")?;
    serde_json::from_slice(&answer).context("the worker's answer cannot be read")
}

/// The worker's half: takes what the broker tells until it is gone.
pub(in crate::run) fn listen(
    mut stream: UnixStream,
    admin: &GatewayAdmin,
    certificates: &[Arc<Certificates>],
) {
    while let Ok(message) = receive(&mut stream) {
        let faults = match serde_json::from_slice::<Told>(&message) {
            Ok(told) => take(told, admin, certificates),
            Err(error) => vec![format!("it cannot be read: {error}")],
        };
        let answer = serde_json::to_vec(&faults).unwrap_or_else(|_| b"[]".to_vec());
        if send(&mut stream, &answer).is_err() {
            return;
        }
    }
}

fn take(told: Told, admin: &GatewayAdmin, certificates: &[Arc<Certificates>]) -> Vec<String> {
    let mut faults = Vec::new();
    for (certificates, pems) in certificates.iter().zip(&told.certificates) {
        let pems: Vec<CertificatePem> = pems.iter().map(certificate).collect();
        if let Err(error) = certificates.replace(&pems) {
            faults.push(error.to_string());
        }
    }
    if let Err(more) = admin.reload(told.documents, Box::new(told.outside)) {
        faults.extend(more.into_iter().map(|(field, words)| format!("{field}: {words}")));
    }
    faults
}

fn send(stream: &mut UnixStream, message: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(message)
}

fn receive(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > RELOAD_MAX_BYTES {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_the_worker_can_reach() {
        let base = tempfile::tempdir().expect("a folder");
        let set = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        };
        set(base.path(), 0o755);
        let closed = base.path().join("closed");
        std::fs::create_dir(&closed).expect("made");
        // A mode of the folder above, whether the gateway's can be made below, and what is said else.
        for (mode, expected) in [(0o700, false), (0o710, false), (0o711, true), (0o755, true)] {
            set(&closed, mode);
            let data = closed.join(format!("{mode:o}")).join("data");
            let folder = data.join("gateway").join("one");
            // Of another user than who runs this, and without giving it away, which takes root.
            let stranger = nix::unistd::Uid::effective().as_raw() + 1;
            make_passable(&data.join("gateway")).expect("made");
            assert_eq!(
                closed_to(&data.join("gateway"), stranger).is_none(),
                expected,
                "{mode:o}"
            );
            if nix::unistd::Uid::effective().is_root() {
                let made = make_folder(&data, &folder, Some(stranger));
                assert_eq!(made.is_ok(), expected, "{mode:o} {made:?}");
                if let Err(error) = made {
                    let words = format!("{error:#}");
                    let advice = format!("chmod o+x {}", closed.display());
                    assert!(words.contains(&advice) && words.contains("store"), "{words}");
                }
            }
        }
        // What is made is passable even with a mask that forbids it.
        let made = base.path().join("new").join("inner");
        make_passable(&made).expect("made");
        for path in [&made, &base.path().join("new")] {
            assert_eq!(std::fs::metadata(path).expect("there").mode() & 0o777, 0o755);
        }
    }
}
