//! Names of models: those of documents, those that providers list, and what a client asks for.

use super::{Faults, Names, cache};
use crate::gateway::document::{Documents, Per, Strategy};
use crate::gateway::limit;
use crate::gateway::snapshot::{Model, Provider, Snapshot, Target};
use llm::catalogue::Catalogue;
use llm::parameters::Parameters;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

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

pub(super) type Models = (HashMap<Arc<str>, Arc<Model>>, HashMap<Arc<str>, Vec<Arc<str>>>);

pub(super) fn models(
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

pub(super) fn parameters(
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
