//! Documents become a snapshot, or a list of everything that is wrong with them.
//!
//! Pure: what stands elsewhere (environment, files) is fetched through [`Outside`].

use super::document::{self, Documents, Per};
use super::limit;
use super::output::Output;
use super::snapshot::{
    Allowed, Breaker, Budget, Cache, Consumer, Guardrail, Model, Prompt, Provider, ProviderKey, Settings,
    Snapshot, StaticKey, Target, Variable,
};
use super::template::Template;
use crate::secret::Secret;
use document::Strategy;
use llm::catalogue::Catalogue;
use llm::money::Money;
use llm::parameters::Parameters;
use llm::presets;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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
    let providers = providers(&documents.providers, &names, &mut faults);
    let (models, ambiguous) = models(documents, &providers, catalogue, &names, &mut faults);
    let (consumers, keys) = consumers(&documents.consumers, &names, &mut faults);
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
    let prompts = prompts(&documents.prompts, &snapshot, catalogue, &mut faults);
    budgets_have_prices(documents, &snapshot, &mut faults);
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

fn providers(
    providers: &[document::Provider],
    names: &Names<'_>,
    faults: &mut Faults,
) -> BTreeMap<Arc<str>, Arc<Provider>> {
    let mut out = BTreeMap::new();
    for (idx, one) in providers.iter().enumerate() {
        let path = format!("providers[{idx}]");
        let Some(preset) = presets::by_kind(&one.kind) else {
            let kinds: Vec<&str> = presets::all().iter().map(|preset| preset.kind).collect();
            faults.add(
                format!("{path}.kind"),
                format!("expected one of {}, found `{}`", kinds.join(", "), one.kind),
            );
            continue;
        };
        let base = match &one.base_url {
            Some(url) => Some(Ok(url.clone())),
            None => preset.base(&one.parameters),
        };
        let url = match base {
            Some(Ok(url)) => url,
            Some(Err(error)) => {
                faults.add(format!("{path}.parameters"), error.to_string());
                continue;
            }
            None => {
                faults.add(
                    format!("{path}.base_url"),
                    format!(
                        "expected the address of this provider: {} has none of its own",
                        preset.title
                    ),
                );
                continue;
            }
        };
        let (origin, is_literal, base_path) = match origin_of(&url) {
            Ok(parts) => parts,
            Err(words) => {
                faults.add(format!("{path}.base_url"), words);
                continue;
            }
        };
        let keys = one.keys.iter().enumerate();
        let keys = keys.filter_map(|(at, key)| {
            Some(ProviderKey {
                id: key
                    .name
                    .as_deref()
                    .map_or_else(|| format!("{}#{at}", one.name).into(), Into::into),
                secret: names.secret(key, &format!("{path}.keys[{at}]"), faults)?,
                weight: key.weight.unwrap_or(1),
            })
        });
        let keys = keys.collect();
        let breaker = one.breaker.clone().unwrap_or_default();
        let provider = Provider {
            name: one.name.as_str().into(),
            preset,
            origin,
            is_literal,
            base_path,
            parameters: one.parameters.clone(),
            keys,
            pick: one.pick.unwrap_or_default(),
            models: one
                .models
                .as_ref()
                .map(|models| models.iter().map(|name| name.as_str().into()).collect()),
            headers: one
                .headers
                .iter()
                .map(|(name, value)| (name.to_lowercase(), value.clone()))
                .collect(),
            price_kind: one.price_as.clone().unwrap_or_else(|| one.kind.clone()),
            price_is_stated: one.price_as.is_some(),
            connect_timeout_ms: one.connect_timeout_ms.unwrap_or(5_000),
            first_byte_timeout_ms: one.first_byte_timeout_ms.unwrap_or(300_000),
            idle_timeout_ms: one.idle_timeout_ms.unwrap_or(120_000),
            limits: limit::read(
                &one.limits,
                &format!("provider/{}", one.name),
                Per::All,
                &format!("{path}.limits"),
                faults,
            ),
            ca: one
                .ca
                .as_ref()
                .and_then(|file| names.file(file, &format!("{path}.ca"), faults)),
            breaker: Breaker {
                failures: breaker.failures.unwrap_or(5),
                open_ms: breaker.open_ms.unwrap_or(10_000),
            },
        };
        out.insert(Arc::clone(&provider.name), Arc::new(provider));
    }
    out
}

impl Target {
    /// A model of a provider, with what the catalogue knows of it.
    pub fn of(provider: &Arc<Provider>, model: &str, catalogue: &Catalogue) -> Self {
        let own = catalogue.lookup(&provider.name, model);
        let by_kind = || {
            let kinds: &[&str] = if provider.price_is_stated {
                &[]
            } else {
                provider.preset.catalogue
            };
            let kinds = std::iter::once(&*provider.price_kind).chain(kinds.iter().copied());
            kinds.filter_map(|kind| catalogue.lookup(kind, model)).next()
        };
        let known = own.or_else(by_kind);
        // Facts other than prices do not depend on who sells.
        let kinds = provider.preset.catalogue.iter();
        let mut kinds = kinds.filter_map(|kind| catalogue.lookup(kind, model));
        let facts = known.or_else(|| kinds.next());
        Self {
            provider: Arc::clone(provider),
            model: model.into(),
            weight: 1,
            priority: 0,
            prices: known
                .map(|known| known.prices.clone())
                .filter(|prices| !prices.is_empty())
                .map(Arc::new),
            price_is_assumed: !provider.price_is_stated && known.is_some_and(llm::catalogue::Model::assumed),
            context_tokens: facts.and_then(|facts| facts.context_tokens),
            max_output_tokens: facts.and_then(|facts| facts.max_output_tokens),
        }
    }
}

impl Model {
    /// `provider/model`, which needs no document.
    pub fn direct(name: &str, target: Target) -> Self {
        Self {
            name: name.into(),
            targets: vec![target],
            strategy: Strategy::Fallback,
            parameters: Parameters::default(),
            guardrails: Vec::new(),
            limits: Vec::new(),
            retries: RETRIES,
            timeout_ms: TIMEOUT_MS,
            cache: None,
            description: None,
        }
    }
}

/// Tries after the first, where a model does not say.
const RETRIES: u32 = 2;

/// Time for all of a call, where a model does not say.
const TIMEOUT_MS: u64 = 600_000;

type Models = (HashMap<Arc<str>, Arc<Model>>, HashMap<Arc<str>, Vec<Arc<str>>>);

fn models(
    documents: &Documents,
    providers: &BTreeMap<Arc<str>, Arc<Provider>>,
    catalogue: &Catalogue,
    names: &Names<'_>,
    faults: &mut Faults,
) -> Models {
    // Plain names that providers list.
    let mut listed: BTreeMap<Arc<str>, Vec<Arc<Provider>>> = BTreeMap::new();
    for provider in providers.values() {
        for model in provider.models.iter().flatten() {
            listed
                .entry(Arc::clone(model))
                .or_default()
                .push(Arc::clone(provider));
        }
    }
    let mut out = HashMap::new();
    let mut ambiguous = HashMap::new();
    for (name, owners) in listed {
        match owners.as_slice() {
            [owner] => {
                let model = Model::direct(&name, Target::of(owner, &name, catalogue));
                out.insert(name, Arc::new(model));
            }
            owners => {
                let owners = owners.iter().map(|owner| Arc::clone(&owner.name)).collect();
                ambiguous.insert(name, owners);
            }
        }
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (idx, one) in documents.models.iter().enumerate() {
        let path = format!("models[{idx}]");
        if one.targets.is_empty() {
            faults.add(
                format!("{path}.targets"),
                "expected at least one target, as provider/model".to_owned(),
            );
        }
        let mut targets = Vec::new();
        for (at, target) in one.targets.iter().enumerate() {
            match direct_target(&target.model, providers, catalogue) {
                Ok(found) => targets.push(Target {
                    weight: target.weight.unwrap_or(1),
                    priority: target.priority.unwrap_or(0),
                    ..found
                }),
                Err(words) => faults.add(format!("{path}.targets[{at}].model"), words),
            }
        }
        targets.sort_by_key(|target| target.priority);
        let is_weighted = one.targets.iter().any(|target| target.weight.is_some());
        let strategy = one.strategy.unwrap_or(if is_weighted {
            Strategy::Weighted
        } else {
            Strategy::Fallback
        });
        let model = Arc::new(Model {
            name: one.name.as_str().into(),
            targets,
            strategy,
            parameters: parameters(&one.parameters, &path, faults),
            guardrails: names.guardrails(&one.guardrails, &format!("{path}.guardrails"), faults),
            limits: limit::read(
                &one.limits,
                &format!("model/{}", one.name),
                Per::Model,
                &format!("{path}.limits"),
                faults,
            ),
            retries: one.retries.unwrap_or(RETRIES),
            timeout_ms: one.timeout_ms.unwrap_or(TIMEOUT_MS),
            cache: cache(one.cache.as_ref()),
            description: one.description.clone(),
        });
        let aliases = one.aliases.iter().enumerate();
        let aliases = aliases.map(|(at, alias)| (format!("{path}.aliases[{at}]"), alias.as_str()));
        for (field, name) in std::iter::once((format!("{path}.name"), one.name.as_str())).chain(aliases) {
            if !seen.insert(name) {
                if !field.ends_with(".name") {
                    faults.add(field, format!("`{name}` names a model already"));
                }
                continue;
            }
            ambiguous.remove(name);
            out.insert(name.into(), Arc::clone(&model));
        }
    }
    (out, ambiguous)
}

fn parameters(
    given: &serde_json::Map<String, serde_json::Value>,
    path: &str,
    faults: &mut Faults,
) -> Parameters {
    Parameters::read(given).unwrap_or_else(|error| {
        faults.add(format!("{path}.parameters"), error.to_string());
        Parameters::default()
    })
}

/// Finds `provider/model`.
fn direct_target(
    name: &str,
    providers: &BTreeMap<Arc<str>, Arc<Provider>>,
    catalogue: &Catalogue,
) -> Result<Target, String> {
    let Some((provider, model)) = name.split_once('/') else {
        return Err(format!("expected provider/model, found `{name}`"));
    };
    let Some(provider) = providers.get(provider) else {
        return Err(format!("no provider is called `{provider}`"));
    };
    if provider
        .models
        .as_ref()
        .is_some_and(|models| !models.contains(model))
    {
        return Err(format!(
            "provider `{}` does not list `{model}` among its models",
            provider.name
        ));
    }
    if model.is_empty() {
        return Err(format!("expected provider/model, found `{name}`"));
    }
    Ok(Target::of(provider, model, catalogue))
}

/// Why a name has no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoModel {
    /// Nothing is called so.
    Unknown,
    /// Several providers list it: write one of `provider/model`.
    Ambiguous(Vec<String>),
}

impl Snapshot {
    /// The model that a client asks for: a name of the documents, a plain name that one provider lists,
    /// or `provider/model`, split at the first slash only if the prefix names a provider.
    ///
    /// # Errors
    /// Nothing, or too much, is called so.
    pub fn model(&self, name: &str, catalogue: &Catalogue) -> Result<Arc<Model>, NoModel> {
        if let Some(model) = self.models.get(name) {
            return Ok(Arc::clone(model));
        }
        if let Ok(target) = direct_target(name, &self.providers, catalogue) {
            return Ok(Arc::new(Model::direct(name, target)));
        }
        match self.ambiguous.get(name) {
            Some(owners) => Err(NoModel::Ambiguous(
                owners.iter().map(|owner| format!("{owner}/{name}")).collect(),
            )),
            None => Err(NoModel::Unknown),
        }
    }
}

fn consumers(
    consumers: &[document::Consumer],
    names: &Names<'_>,
    faults: &mut Faults,
) -> (HashMap<Arc<str>, Arc<Consumer>>, Vec<StaticKey>) {
    let (mut out, mut keys) = (HashMap::new(), Vec::<StaticKey>::new());
    for (idx, one) in consumers.iter().enumerate() {
        let path = format!("consumers[{idx}]");
        let name: Arc<str> = one.name.as_str().into();
        for (at, key) in one.keys.iter().enumerate() {
            let path = format!("{path}.keys[{at}]");
            let Some(secret) = names.secret(key, &path, faults) else {
                continue;
            };
            if keys.iter().any(|other| other.secret == secret) {
                faults.add(
                    path,
                    "this key is there twice: a key names one consumer".to_owned(),
                );
                continue;
            }
            keys.push(StaticKey {
                consumer: Arc::clone(&name),
                id: key
                    .name
                    .as_deref()
                    .map_or_else(|| format!("{name}#{at}").into(), Into::into),
                secret,
            });
        }
        let owner = format!("consumer/{name}");
        let consumer = Consumer {
            name: Arc::clone(&name),
            organisation: one.organisation.as_deref().unwrap_or("default").into(),
            team: one.team.as_deref().unwrap_or("default").into(),
            models: Allowed(one.models.clone()),
            services: Allowed(one.services.clone()),
            limits: limit::read(
                &one.limits,
                &owner,
                Per::Consumer,
                &format!("{path}.limits"),
                faults,
            ),
            budget: one
                .budget
                .as_ref()
                .and_then(|budget| read_budget(budget, &path, faults)),
            guardrails: names.guardrails(&one.guardrails, &format!("{path}.guardrails"), faults),
            strict: one.strict,
        };
        out.insert(name, Arc::new(consumer));
    }
    (out, keys)
}

fn read_budget(budget: &document::Budget, path: &str, faults: &mut Faults) -> Option<Budget> {
    match budget.usd.to_string().parse::<Money>() {
        Ok(limit) if limit > Money::default() => Some(Budget {
            limit,
            period: budget.per.unwrap_or_default(),
            is_hard: budget.hard.unwrap_or(false),
        }),
        _ => {
            faults.add(
                format!("{path}.budget.usd"),
                format!(
                    "expected US dollars above 0, as 100 or 0.5, found `{}`",
                    budget.usd
                ),
            );
            None
        }
    }
}

/// A hard budget on a model without a price could not be kept.
fn budgets_have_prices(documents: &Documents, snapshot: &Snapshot, faults: &mut Faults) {
    for (idx, consumer) in documents.consumers.iter().enumerate() {
        let (Some(_), Some(patterns)) = (&consumer.budget, &consumer.models) else {
            continue;
        };
        for (at, pattern) in patterns.iter().enumerate() {
            let Some(model) = snapshot.models.get(pattern.as_str()) else {
                continue;
            };
            for target in model.targets.iter().filter(|target| target.prices.is_none()) {
                faults.add(
                    format!("consumers[{idx}].models[{at}]"),
                    format!(
                        "`{}/{}` has no price, so the budget of `{}` cannot be kept: give one in gateway.catalogue, or `price_as` in the provider",
                        target.provider.name, target.model, consumer.name
                    ),
                );
            }
        }
    }
}

fn prompts(
    prompts: &[document::Prompt],
    snapshot: &Snapshot,
    catalogue: &Catalogue,
    faults: &mut Faults,
) -> HashMap<Arc<str>, Arc<Prompt>> {
    let mut out: HashMap<Arc<str>, Arc<Prompt>> = HashMap::new();
    for (idx, one) in prompts.iter().enumerate() {
        let path = format!("prompts[{idx}]");
        let at: Arc<str> = match &one.path {
            Some(path) => path.as_str().into(),
            None => format!("/prompts/{}", one.name).into(),
        };
        if !at.starts_with('/') || at.contains(['?', '#', '*', '{', ' ']) {
            faults.add(
                format!("{path}.path"),
                format!("expected a path from the root, as /prompts/sentiment, found `{at}`"),
            );
        }
        if snapshot.model(&one.model, catalogue).is_err() {
            faults.add(
                format!("{path}.model"),
                format!("no model is called `{}`", one.model),
            );
        }
        let variables = one.variables.iter().map(|(name, variable)| {
            let variable = match variable {
                document::Variable::Plain(kind) => document::FullVariable {
                    kind: *kind,
                    ..document::FullVariable::default()
                },
                document::Variable::Full(full) => full.clone(),
            };
            (
                name.clone(),
                Variable {
                    kind: variable.kind,
                    description: variable.description,
                    default: variable.default,
                    choices: variable.choices,
                    max_length: variable.max_length,
                },
            )
        });
        let variables: BTreeMap<String, Variable> = variables.collect();
        let mut template = |text: &str, field: &str| {
            let field = format!("{path}.{field}");
            match Template::parse(text) {
                Ok(template) => {
                    for name in template.variables().filter(|name| !variables.contains_key(*name)) {
                        faults.add(
                            field.clone(),
                            format!("`{{{{ {name} }}}}` is not among the variables: add it there"),
                        );
                    }
                    template
                }
                Err(words) => {
                    faults.add(field, words);
                    Template::default()
                }
            }
        };
        let system = one.system.as_deref().map(|text| template(text, "system"));
        let template = template(&one.template, "template");
        parameters(&one.parameters, &path, faults);
        let output = one
            .output
            .as_ref()
            .and_then(|schema| match Output::new(schema.clone().into()) {
                Ok(output) => Some(output),
                Err(words) => {
                    faults.add(format!("{path}.output"), words);
                    None
                }
            });
        let prompt = Prompt {
            name: one.name.as_str().into(),
            path: Arc::clone(&at),
            model: one.model.clone(),
            variables,
            template,
            system,
            parameters: one.parameters.clone(),
            output,
            description: one.description.clone(),
            limits: limit::read(
                &one.limits,
                &format!("prompt/{}", one.name),
                Per::Service,
                &format!("{path}.limits"),
                faults,
            ),
            auth: one.auth.clone(),
        };
        if out.insert(Arc::clone(&at), Arc::new(prompt)).is_some() {
            faults.add(format!("{path}.path"), format!("`{at}` is another prompt's path"));
        }
    }
    out
}
