//! Models, what they can do and what they cost: those that ship with Weir, and the operator's own.
//!
//! The shipped table (`data/catalogue.json`) is made by `cargo xtask catalogue` from litellm 1.109.1
//! (MIT, see `data/LICENSE-litellm`), taken on 2026-11-20; which of its rows and prices are left out is
//! in the doc of that task. It is text in the binary; names point into it, and the 1,704 models made
//! from it at first use take 0.6 MB.
//!
//! An operator's [`ModelOverride`] wins over a shipped model of the same kind and name.

mod overrides;

pub use overrides::{CatalogueError, ModelOverride};

use crate::money::{PerMillion, PerToken, Prices};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::sync::OnceLock;

/// The table that ships: one model per line, ordered by kind and name.
const SHIPPED: &str = include_str!("../data/catalogue.json");

/// What a model is called through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A conversation, in any of the formats for it.
    #[default]
    Chat,
    /// A conversation, by OpenAI Responses alone.
    Responses,
    /// A text to be continued.
    Completion,
    /// Texts to vectors.
    Embedding,
    /// Documents by how well they answer a query.
    Rerank,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u16);

impl Features {
    /// Calls tools.
    pub const TOOLS: Self = Self(1);
    /// Calls several tools in one answer.
    pub const PARALLEL_TOOLS: Self = Self(1 << 1);
    /// Can be told which tool to call.
    pub const TOOL_CHOICE: Self = Self(1 << 2);
    /// Reads images.
    pub const VISION: Self = Self(1 << 3);
    /// Reads PDF documents.
    pub const PDF: Self = Self(1 << 4);
    /// Sees videos.
    pub const VIDEO: Self = Self(1 << 5);
    /// Hears.
    pub const AUDIO_IN: Self = Self(1 << 6);
    /// Speaks.
    pub const AUDIO_OUT: Self = Self(1 << 7);
    /// Answers by a JSON schema.
    pub const STRUCTURED: Self = Self(1 << 8);
    /// Reasons before it answers.
    pub const REASONING: Self = Self(1 << 9);
    /// Its provider caches prompts.
    pub const CACHE: Self = Self(1 << 10);
    /// Searches the web by itself.
    pub const WEB_SEARCH: Self = Self(1 << 11);

    /// Each feature and its name in documents.
    pub const NAMES: [(&'static str, Self); 12] = [
        ("tools", Self::TOOLS),
        ("parallel_tools", Self::PARALLEL_TOOLS),
        ("tool_choice", Self::TOOL_CHOICE),
        ("vision", Self::VISION),
        ("pdf", Self::PDF),
        ("video", Self::VIDEO),
        ("audio_in", Self::AUDIO_IN),
        ("audio_out", Self::AUDIO_OUT),
        ("structured", Self::STRUCTURED),
        ("reasoning", Self::REASONING),
        ("cache", Self::CACHE),
        ("web_search", Self::WEB_SEARCH),
    ];

    /// Are all of `wanted` there?
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// These and `more`.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// The feature of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, feature)| *feature)
    }

    /// The names of those that are there.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let present = Self::NAMES
            .into_iter()
            .filter(move |(_, feature)| self.has(*feature));
        present.map(|(name, _)| name)
    }
}

/// One model of one kind of provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The kind of its provider, or the name of one provider.
    pub kind: Cow<'static, str>,
    /// As clients and the provider call it, without the provider's prefix.
    pub name: Cow<'static, str>,
    /// How it is called.
    pub mode: Mode,
    /// The most tokens of a prompt.
    pub context_tokens: Option<u64>,
    /// The most tokens of an answer.
    pub max_output_tokens: Option<u64>,
    /// What it can do.
    pub features: Features,
    /// What it costs; empty where that is not known.
    pub prices: Prices,
    /// The date its prices were taken (ISO 8601); `None` if the operator set them.
    pub taken: Option<&'static str>,
    /// Not this provider's prices, but those for which this other one sells the same model.
    pub priced_from: Option<&'static str>,
}

impl Model {
    /// Are the prices an assumption? True for all that ship, since a provider may have changed them.
    pub const fn assumed(&self) -> bool {
        self.taken.is_some()
    }
}

impl Serialize for Model {
    /// In the fields of a [`ModelOverride`], and where its prices are from.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("provider", &self.kind)?;
        map.serialize_entry("model", &self.name)?;
        map.serialize_entry("mode", &self.mode)?;
        if let Some(tokens) = self.context_tokens {
            map.serialize_entry("context_tokens", &tokens)?;
        }
        if let Some(tokens) = self.max_output_tokens {
            map.serialize_entry("max_output_tokens", &tokens)?;
        }
        map.serialize_entry("features", &self.features.names().collect::<Vec<_>>())?;
        if !self.prices.is_empty() {
            map.serialize_entry("usd_per_million", &PerMillion(self.prices.clone()))?;
        }
        if let Some(price) = self.prices.request() {
            map.serialize_entry("usd_per_request", &price)?;
        }
        if let Some(taken) = self.taken {
            map.serialize_entry("prices_taken", taken)?;
        }
        if let Some(provider) = self.priced_from {
            map.serialize_entry("priced_from", provider)?;
        }
        map.end()
    }
}

/// Models by kind of provider and name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Ordered by kind and name, each pair once.
    models: Vec<Model>,
    /// What is asked where `models` has no answer.
    base: Option<&'static Self>,
}

impl Catalogue {
    /// The models that ship. Read at first use, then kept.
    pub fn shipped() -> &'static Self {
        static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
        // A table that cannot be read cannot have passed the tests; without one, every price is unknown.
        CATALOGUE.get_or_init(|| Self::parse(SHIPPED).unwrap_or_default())
    }

    /// The models that ship, with the operator's own put over them.
    pub fn with_overrides(overrides: Vec<ModelOverride>) -> Result<Self, CatalogueError> {
        overrides::apply(Self::shipped(), overrides)
    }

    /// The model of this name of a provider of this kind.
    ///
    /// A fine-tuned model (`ft:gpt-4o-mini:acme::id`) is found by what it was made from
    /// (`ft:gpt-4o-mini`), since that has its price.
    pub fn lookup(&self, kind: &str, name: &str) -> Option<&Model> {
        let exact = self.exact(kind, name);
        exact.or_else(|| {
            let base = name.strip_prefix("ft:")?.split(':').next()?;
            let end = "ft:".len() + base.len();
            self.exact(kind, &name[..end])
        })
    }

    fn exact(&self, kind: &str, name: &str) -> Option<&Model> {
        let own = self.own(kind, name).and_then(|index| self.models.get(index));
        own.or_else(|| self.base?.exact(kind, name))
    }

    fn own(&self, kind: &str, name: &str) -> Option<usize> {
        let order = |model: &Model| (&*model.kind, &*model.name).cmp(&(kind, name));
        self.models.binary_search_by(order).ok()
    }

    /// Every model; ordered by kind and name, first the operator's, then those that ship.
    pub fn iter(&self) -> impl Iterator<Item = &Model> {
        let base = self.base.map(|base| base.models.as_slice()).unwrap_or_default();
        let base = base
            .iter()
            .filter(|model| self.own(&model.kind, &model.name).is_none());
        self.models.iter().chain(base)
    }

    /// The models of one kind of provider.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Model> {
        self.iter().filter(move |model| model.kind == kind)
    }

    /// Every kind that has models, once, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        let kinds: std::collections::BTreeSet<&str> = self.iter().map(|model| &*model.kind).collect();
        kinds.into_iter()
    }

    /// The number of models.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Is there no model?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn parse(text: &'static str) -> Result<Self, serde_json::Error> {
        let table: Table<'static> = serde_json::from_str(text)?;
        let mut models: Vec<Model> = table
            .models
            .into_iter()
            .map(|row| row.into_model(table.taken))
            .collect();
        models.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        models.shrink_to_fit();
        Ok(Self { models, base: None })
    }
}

/// The shipped table.
#[derive(Deserialize)]
struct Table<'a> {
    taken: &'a str,
    #[serde(borrow)]
    models: Vec<Row<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    model: Cow<'a, str>,
    mode: Mode,
    context_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "features")]
    features: Features,
    prices: Option<PerToken>,
    priced_from: Option<&'a str>,
}

impl Row<'static> {
    fn into_model(self, taken: &'static str) -> Model {
        Model {
            kind: self.kind,
            name: self.model,
            mode: self.mode,
            context_tokens: self.context_tokens,
            max_output_tokens: self.max_output_tokens,
            features: self.features,
            prices: self.prices.unwrap_or_default().0,
            taken: Some(taken),
            priced_from: self.priced_from,
        }
    }
}

/// Names with spaces between them.
fn features<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Features, D::Error> {
    let names: Cow<'de, str> = Deserialize::deserialize(deserializer)?;
    names.split(' ').try_fold(Features::default(), |features, name| {
        let feature = Features::named(name);
        let feature = feature.ok_or_else(|| serde::de::Error::custom(format_args!("features: {name}")))?;
        Ok(features.with(feature))
    })
}

#[cfg(test)]
mod tests;
