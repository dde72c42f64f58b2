//! The models that a client may use, in the form of its format.

use crate::live::Live;
use llm::format::Format;
use llm::models::{Model as Entry, Page, write_model, write_models};
use policy::gateway::snapshot::{Consumer, Model, Target};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All models that a consumer may use: names of the configuration, and what providers list or the
/// catalogue knows of them as `provider/model`.
fn entries(live: &Live, consumer: &Consumer) -> BTreeMap<String, Entry> {
    let mut out = BTreeMap::new();
    let mut add = |name: &str, target: Option<&Target>, description: Option<&str>, owner: &str| {
        if consumer.models.has(name) {
            out.entry(name.to_owned())
                .or_insert_with(|| entry(name, target, description, owner));
        }
    };
    for (name, model) in &live.snapshot.models {
        let owner = model
            .targets
            .first()
            .map_or("weir", |target| &target.provider.name);
        add(name, model.targets.first(), model.description.as_deref(), owner);
    }
    for provider in live.snapshot.providers.values() {
        let mut names: Vec<Arc<str>> = Vec::new();
        match &provider.models {
            Some(listed) => names.extend(listed.iter().cloned()),
            None => names.extend(
                live.catalogue
                    .of_kind(provider.preset.kind)
                    .map(|model| Arc::from(&*model.name)),
            ),
        }
        for model in names {
            let name = format!("{}/{model}", provider.name);
            let target = Target::of(provider, &model, &live.catalogue);
            add(&name, Some(&target), None, &provider.name);
        }
    }
    out
}

fn entry(name: &str, target: Option<&Target>, description: Option<&str>, owner: &str) -> Entry {
    Entry {
        id: name.to_owned(),
        created_s: 0,
        context_tokens: target.and_then(|target| target.context_tokens),
        max_output_tokens: target.and_then(|target| target.max_output_tokens),
        display_name: description.map(str::to_owned),
        owned_by: Some(owner.to_owned()),
    }
}

/// The list, or the part of it that the query asks for.
pub(super) fn all(live: &Live, consumer: &Consumer, format: Format, query: Option<&str>) -> Value {
    let entries: Vec<Entry> = entries(live, consumer).into_values().collect();
    let value = |names: [&str; 2]| {
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let mut found = pairs
            .filter(|(name, _)| names.contains(name))
            .map(|(_, value)| value);
        found.next().and_then(|value| super::percent_decode(value).ok())
    };
    let page = Page {
        limit: value(["limit", "pageSize"]).and_then(|limit| limit.parse().ok()),
        after: value(["after_id", "pageToken"]),
        before: value(["before_id", "before_id"]),
    };
    write_models(format, &entries, &page)
}

/// One model, if the consumer may use it.
pub(super) fn one(live: &Live, consumer: &Consumer, format: Format, name: &str) -> Option<Value> {
    let model: Arc<Model> = live.snapshot.model(name, &live.catalogue).ok()?;
    if !consumer.models.has(name) {
        return None;
    }
    let target = model.targets.first();
    let owner = target.map_or("weir", |target| &target.provider.name);
    Some(write_model(
        format,
        &entry(name, target, model.description.as_deref(), owner),
    ))
}
