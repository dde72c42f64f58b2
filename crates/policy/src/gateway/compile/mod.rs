//! Documents become a snapshot, or a list of everything that is wrong with them.
//!
//! Pure: what stands elsewhere (environment, files) is fetched through [`Outside`].

mod consumers;
mod models;
mod prompts;
mod providers;

pub use models::NoModel;

use super::document::{self, Documents, Per};
use super::limit;
use super::snapshot::{Cache, Guardrail, Settings, Snapshot};
use crate::secret::Secret;
use llm::catalogue::Catalogue;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What documents name and do not hold. Errors are one sentence.
pub trait Outside {
    /// The value of an environment variable.
    ///
    /// # Errors
    /// It is not set.
    fn env(&self, name: &str) -> Result<String, String>;
    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `providers[0].keys[1].env`.
    pub field: String,
    /// What was expected, what was found, what to do.
    pub words: String,
}

/// Everything that is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, field: String, words: String) {
        self.0.push(Fault { field, words });
    }
}

/// What documents refer to by name.
pub(super) struct Names<'a> {
    outside: &'a dyn Outside,
    guardrails: HashMap<String, Arc<Guardrail>>,
}

impl Names<'_> {
    pub(super) fn guardrails(
        &self,
        names: &[String],
        path: &str,
        faults: &mut Faults,
    ) -> Vec<Arc<Guardrail>> {
        let found = names
            .iter()
            .enumerate()
            .filter_map(|(idx, name)| match self.guardrails.get(name) {
                Some(guardrail) => Some(Arc::clone(guardrail)),
                None => {
                    faults.add(
                        format!("{path}[{idx}]"),
                        format!("no guardrail is called `{name}`"),
                    );
                    None
                }
            });
        found.collect()
    }

    pub(super) fn file(&self, file: &str, path: &str, faults: &mut Faults) -> Option<String> {
        self.outside
            .file(file)
            .map_err(|words| faults.add(path.to_owned(), words))
            .ok()
    }

    pub(super) fn secret(
        &self,
        secret: &document::Secret,
        path: &str,
        faults: &mut Faults,
    ) -> Option<Secret> {
        let (field, text) = match (&secret.value, &secret.env, &secret.file) {
            (Some(value), None, None) => ("value", Ok(value.clone())),
            (None, Some(name), None) => ("env", self.outside.env(name)),
            (None, None, Some(file)) => ("file", self.outside.file(file)),
            _ => {
                faults.add(
                    path.to_owned(),
                    "expected exactly one of value, env, file".to_owned(),
                );
                return None;
            }
        };
        match text {
            Ok(text) if text.trim().is_empty() => {
                faults.add(
                    format!("{path}.{field}"),
                    "expected a key, found nothing".to_owned(),
                );
                None
            }
            Ok(text) => Some(Secret::new(text.trim())),
            Err(words) => {
                faults.add(format!("{path}.{field}"), words);
                None
            }
        }
    }
}

/// Splits `http://host:port/path` into origin, whether the host is a literal address, and path.
pub(super) fn origin_of(url: &str) -> Result<(String, bool, String), String> {
    let wrong =
        || format!("expected an address as https://api.example/v1 or http://127.0.0.1:9101, found `{url}`");
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    if scheme != "http" && scheme != "https" {
        return Err(wrong());
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() || authority.contains(['@', '?', '#', ' ']) || path.contains(['?', '#', ' ']) {
        return Err(wrong());
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(wrong());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_literal = bare.parse::<IpAddr>().is_ok() || bare.eq_ignore_ascii_case("localhost");
    if bare.contains(':') && bare.parse::<IpAddr>().is_err() {
        return Err(wrong());
    }
    let authority = authority.to_lowercase();
    Ok((
        format!("{scheme}://{authority}"),
        is_literal,
        path.trim_end_matches('/').to_owned(),
    ))
}

/// Compiles all documents.
///
/// # Errors
/// Everything that is wrong; nothing is half in force.
pub fn compile(
    documents: &Documents,
    outside: &dyn Outside,
    catalogue: &Catalogue,
    generation: u64,
) -> Result<Snapshot, Vec<Fault>> {
    let mut faults = Faults::default();
    unique(documents, &mut faults);
    let names = Names {
        outside,
        guardrails: guardrails(&documents.guardrails, &mut faults),
    };
    let settings = settings(
        &documents.gateway.clone().unwrap_or_default(),
        &names,
        &mut faults,
    );
    let providers = providers::providers(&documents.providers, &names, &mut faults);
    let (models, ambiguous) = models::models(documents, &providers, catalogue, &names, &mut faults);
    let (consumers, keys) = consumers::consumers(&documents.consumers, &names, &mut faults);
    let services = super::service::read(&documents.services, &names, &mut faults);
    let snapshot = Snapshot {
        generation,
        settings,
        providers,
        models,
        ambiguous,
        consumers,
        keys,
        services,
        prompts: HashMap::new(),
    };
    let prompts = prompts::prompts(&documents.prompts, &snapshot, catalogue, &mut faults);
    consumers::budgets_have_prices(documents, &snapshot, &mut faults);
    if faults.0.is_empty() {
        Ok(Snapshot { prompts, ..snapshot })
    } else {
        Err(faults.0)
    }
}

/// Names are unique within their kind, and are names.
fn unique(documents: &Documents, faults: &mut Faults) {
    let mut check = |section: &str, names: Vec<&str>| {
        let mut seen = HashSet::new();
        for (idx, name) in names.into_iter().enumerate() {
            let path = format!("{section}[{idx}].name");
            if name.is_empty() || name.len() > 128 || name.chars().any(|c| c.is_control() || c == ' ') {
                faults.add(
                    path,
                    "expected a name of 1 to 128 characters without spaces".to_owned(),
                );
            } else if section == "providers" && name.contains('/') {
                faults.add(
                    path,
                    "expected a name without `/`, which parts a provider from its model".to_owned(),
                );
            } else if !seen.insert(name) {
                faults.add(
                    path,
                    format!("`{name}` is there twice: names are unique within their kind"),
                );
            }
        }
    };
    check(
        "providers",
        documents.providers.iter().map(|one| one.name.as_str()).collect(),
    );
    check(
        "models",
        documents.models.iter().map(|one| one.name.as_str()).collect(),
    );
    check(
        "consumers",
        documents.consumers.iter().map(|one| one.name.as_str()).collect(),
    );
    check(
        "services",
        documents.services.iter().map(|one| one.name.as_str()).collect(),
    );
    check(
        "prompts",
        documents.prompts.iter().map(|one| one.name.as_str()).collect(),
    );
    check(
        "guardrails",
        documents.guardrails.iter().map(|one| one.name.as_str()).collect(),
    );
}

fn cache(cache: Option<&document::Cache>) -> Option<Cache> {
    let cache = cache?;
    Some(Cache {
        ttl_s: cache.ttl_s.unwrap_or(300),
        size_bytes: u64::from(cache.size_mib.unwrap_or(64)) << 20,
    })
}

fn settings(gateway: &document::Gateway, names: &Names<'_>, faults: &mut Faults) -> Settings {
    Settings {
        body_max_bytes: gateway.body_max_bytes.unwrap_or(32 << 20),
        answer_max_bytes: gateway.answer_max_bytes.unwrap_or(64 << 20),
        limits: limit::read(&gateway.limits, "gateway", Per::All, "gateway.limits", faults),
        guardrails: names.guardrails(&gateway.guardrails, "gateway.guardrails", faults),
        strict: gateway.strict.unwrap_or(false),
        cache: cache(gateway.cache.as_ref()),
        audit_bodies: gateway
            .calls
            .as_ref()
            .and_then(|calls| calls.bodies)
            .unwrap_or(false),
    }
}

fn guardrails(guardrails: &[document::Guardrail], faults: &mut Faults) -> HashMap<String, Arc<Guardrail>> {
    let mut out = HashMap::new();
    for (idx, one) in guardrails.iter().enumerate() {
        let path = format!("guardrails[{idx}]");
        let guardrail = super::guardrail::read(one, &path, faults);
        out.insert(one.name.clone(), Arc::new(guardrail));
    }
    out
}
