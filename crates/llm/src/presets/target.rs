//! Templates of addresses, and the encoding of what goes into them.

use super::Preset;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The provider has not been told a parameter.
    #[error("{0}: missing; the provider's address needs it: set it under `parameters`")]
    Missing(String),
    /// The name of a model, or a path, that would lead elsewhere.
    #[error("model: not a name that can stand in an address")]
    Model,
}

/// Fills the parameters of a template in. The error is the name of the one that is missing.
pub fn fill(template: &str, parameters: &BTreeMap<String, String>) -> Result<String, String> {
    substitute(template, |name| {
        let (name, is_prefix) = match name.strip_suffix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let value = parameters.get(name).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| name.to_owned())?;
        Ok(match (is_prefix, value.as_str()) {
            (true, "global") => String::new(),
            (true, value) => format!("{}-", encode(value)),
            (false, value) => encode(value),
        })
    })
}

/// A template of a preset with its parameters, their defaults and the model.
pub(super) fn expand(
    preset: &Preset,
    template: &str,
    model: &str,
    parameters: &BTreeMap<String, String>,
) -> Result<String, TargetError> {
    let of_model = substitute(template, |name| match name {
        "model" => check(model).map(|()| encode(model)),
        "models/" if model.contains('/') => segments(model),
        "models/" => check(model).map(|()| format!("models/{}", encode(model))),
        "publisher/" => {
            let (publisher, model) = model.split_once('/').unwrap_or(("google", model));
            check(publisher)?;
            check(model)?;
            Ok(format!(
                "publishers/{}/models/{}",
                encode(publisher),
                encode(model)
            ))
        }
        other => Ok(format!("{{{other}}}")),
    })?;
    let defaults = preset.parameters.iter().filter_map(|parameter| {
        let default = parameter
            .default
            .filter(|_| !parameters.contains_key(parameter.name))?;
        Some((parameter.name.to_owned(), default.to_owned()))
    });
    let mut all: BTreeMap<String, String> = defaults.collect();
    if all.is_empty() {
        return fill(&of_model, parameters).map_err(TargetError::Missing);
    }
    all.extend(parameters.clone());
    fill(&of_model, &all).map_err(TargetError::Missing)
}

/// A path and query of the client's, if it stays below the base URL.
pub(super) fn client_path(path: &str) -> Result<String, TargetError> {
    let plain = path.split('?').next().unwrap_or_default();
    let is_text = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\');
    let is_dots = |segment: &str| {
        let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
        decoded == "." || decoded == ".."
    };
    if !plain.starts_with('/') || plain.starts_with("//") || !is_text || plain.split('/').any(is_dots) {
        return Err(TargetError::Model);
    }
    // An encoded slash or backslash may be read as one by the provider.
    let lower = plain.to_ascii_lowercase();
    if lower.contains("%2f") || lower.contains("%5c") {
        return Err(TargetError::Model);
    }
    Ok(path.to_owned())
}

/// A name that a path would take for a step is none.
fn check(name: &str) -> Result<(), TargetError> {
    if name.is_empty() || name == "." || name == ".." || name.chars().any(char::is_control) {
        return Err(TargetError::Model);
    }
    Ok(())
}

/// A model whose name is a path.
fn segments(model: &str) -> Result<String, TargetError> {
    let encoded: Result<Vec<String>, TargetError> = model
        .split('/')
        .map(|segment| check(segment).map(|()| encode(segment)))
        .collect();
    encoded.map(|segments| segments.join("/"))
}

/// Replaces every `{name}`.
fn substitute<E>(template: &str, mut value: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        out.push_str(before);
        out.push_str(&value(name)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Percent-encodes all but the unreserved characters of RFC 3986 and `@`, with which Google separates
/// versions.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
