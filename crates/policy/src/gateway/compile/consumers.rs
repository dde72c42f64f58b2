//! Who may ask, their keys, limits and budgets.

use super::{Faults, Names};
use crate::gateway::document::{self, Documents, Per};
use crate::gateway::limit;
use crate::gateway::snapshot::{Allowed, Budget, Consumer, Snapshot, StaticKey};
use llm::money::Money;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn consumers(
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
pub(super) fn budgets_have_prices(documents: &Documents, snapshot: &Snapshot, faults: &mut Faults) {
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
