//! Providers, and what the catalogue knows of their models.

use super::{Faults, Names, origin_of};
use crate::gateway::document::{self, Per};
use crate::gateway::limit;
use crate::gateway::snapshot::{Breaker, Provider, ProviderKey, Target};
use llm::catalogue::Catalogue;
use llm::presets::{self, Operation};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn providers(
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
        let asked = preset.request_target(Operation::Chat, "model", false, &one.parameters);
        if let Some(Err(error)) = asked {
            faults.add(format!("{path}.parameters"), error.to_string());
            continue;
        }
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
