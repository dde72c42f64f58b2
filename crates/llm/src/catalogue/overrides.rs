//! The operator's own models and prices.

use super::{Catalogue, Features, Mode, Model};
use crate::money::{PerMillion, Prices, UnitPrice};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A model as the operator describes it. What it leaves out is taken from the shipped model of the same
/// kind and name, if there is one; prices are set as a whole.
///
/// ```json
/// {"provider": "openai", "model": "gpt-4o", "usd_per_million": {"input": "2.50", "output": "10"}}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct ModelOverride {
    /// The kind of the provider, or the name of one provider, for which alone it then holds.
    pub provider: String,
    /// The name of the model, without a prefix.
    pub model: String,
    /// How it is called.
    pub mode: Option<Mode>,
    /// The most tokens of a prompt.
    pub context_tokens: Option<u64>,
    /// The most tokens of an answer.
    pub max_output_tokens: Option<u64>,
    /// All it can do.
    pub features: Option<Features>,
    /// Its prices. In documents: `usd_per_million`, an object of prices by bucket in USD per million
    /// tokens, and `usd_per_request`.
    pub prices: Option<Prices>,
}

/// What is wrong with an override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// A field is missing or wrong.
    #[error("{field}: {problem}")]
    Field {
        /// Its name.
        field: String,
        /// What was expected.
        problem: String,
    },
    /// Two overrides of one model.
    #[error("model {model} of {provider} is there twice: remove one")]
    Twice {
        /// Their provider.
        provider: String,
        /// Their name.
        model: String,
    },
}

const FIELDS: [&str; 8] = [
    "provider",
    "model",
    "mode",
    "context_tokens",
    "max_output_tokens",
    "features",
    "usd_per_million",
    "usd_per_request",
];

fn wrong(field: &str, problem: &impl ToString) -> CatalogueError {
    CatalogueError::Field {
        field: field.to_owned(),
        problem: problem.to_string(),
    }
}

/// Takes a field out of a document.
fn take<T: DeserializeOwned>(
    document: &mut Map<String, Value>,
    field: &str,
) -> Result<Option<T>, CatalogueError> {
    match document.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|error| wrong(field, &error)),
    }
}

impl TryFrom<Map<String, Value>> for ModelOverride {
    type Error = CatalogueError;

    fn try_from(mut document: Map<String, Value>) -> Result<Self, CatalogueError> {
        let mut name = |field: &str, example: &str| {
            let name = take::<String>(&mut document, field)?.filter(|name| !name.is_empty());
            name.ok_or_else(|| wrong(field, &format_args!("expected a name, such as \"{example}\"")))
        };
        let provider = name("provider", "openai")?;
        let model = name("model", "gpt-4o-mini")?;
        let rates = take::<PerMillion>(&mut document, "usd_per_million")?;
        let request = take::<UnitPrice>(&mut document, "usd_per_request")?;
        let prices = (rates.is_some() || request.is_some()).then(|| {
            let rates = rates.unwrap_or_default().0;
            Prices::new(*rates.rates(), request, rates.tiers().iter().copied())
        });
        let read = Self {
            provider,
            model,
            mode: take(&mut document, "mode")?,
            context_tokens: take(&mut document, "context_tokens")?,
            max_output_tokens: take(&mut document, "max_output_tokens")?,
            features: take_features(&mut document)?,
            prices,
        };
        match document.keys().next() {
            None => Ok(read),
            Some(unknown) => Err(wrong(
                unknown,
                &format_args!("unknown; expected one of {}", FIELDS.join(", ")),
            )),
        }
    }
}

fn take_features(document: &mut Map<String, Value>) -> Result<Option<Features>, CatalogueError> {
    let Some(names) = take::<Vec<String>>(document, "features")? else {
        return Ok(None);
    };
    let known = || Features::NAMES.map(|(name, _)| name).join(", ");
    let features = names.iter().try_fold(Features::default(), |features, name| {
        let feature = Features::named(name);
        let feature =
            feature.ok_or_else(|| wrong("features", &format_args!("`{name}` is none of {}", known())))?;
        Ok(features.with(feature))
    });
    features.map(Some)
}

/// `base` with `overrides` put over it.
pub(super) fn apply(
    base: &'static Catalogue,
    overrides: Vec<ModelOverride>,
) -> Result<Catalogue, CatalogueError> {
    let mut models: Vec<Model> = overrides.into_iter().map(|own| merge(base, own)).collect();
    models.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    let twice = models
        .windows(2)
        .find(|pair| pair[0].kind == pair[1].kind && pair[0].name == pair[1].name);
    if let Some([model, _]) = twice {
        let (provider, model) = (model.kind.to_string(), model.name.to_string());
        return Err(CatalogueError::Twice { provider, model });
    }
    Ok(Catalogue {
        models,
        base: Some(base),
    })
}

fn merge(base: &Catalogue, own: ModelOverride) -> Model {
    let known = base.exact(&own.provider, &own.model);
    let mut model = known.cloned().unwrap_or_else(|| Model {
        kind: Cow::Borrowed(""),
        name: Cow::Borrowed(""),
        mode: Mode::default(),
        context_tokens: None,
        max_output_tokens: None,
        features: Features::default(),
        prices: Prices::default(),
        taken: None,
        priced_from: None,
    });
    model.kind = Cow::Owned(own.provider);
    model.name = Cow::Owned(own.model);
    model.mode = own.mode.unwrap_or(model.mode);
    model.context_tokens = own.context_tokens.or(model.context_tokens);
    model.max_output_tokens = own.max_output_tokens.or(model.max_output_tokens);
    model.features = own.features.unwrap_or(model.features);
    if let Some(prices) = own.prices {
        model.prices = prices;
        model.taken = None;
        model.priced_from = None;
    }
    model
}
