//! Lists of models, in the form that the client's format has: `GET /v1/models` of OpenAI and of
//! Anthropic, `GET /v1beta/models` of Gemini.

use crate::format::Format;
use serde_json::{Map, Value, json};

/// A model that a client may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The name a client writes into a request.
    pub id: String,
    /// When it came into being, in seconds since 1970; zero if that is not known.
    pub created_s: u64,
    /// Tokens of prompt and answer together.
    pub context_tokens: Option<u64>,
    /// Tokens of an answer.
    pub max_output_tokens: Option<u64>,
    /// A name for people.
    pub display_name: Option<String>,
    /// Who offers it.
    pub owned_by: Option<String>,
}

/// Which part of the list is asked for. OpenAI's has no parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many: `limit` of Anthropic (20 unless given, at most 1000), `pageSize` of Gemini (50, at
    /// most 1000).
    pub limit: Option<usize>,
    /// Those after this id: `after_id` of Anthropic, `pageToken` of Gemini.
    pub after: Option<String>,
    /// Those before this id: `before_id` of Anthropic.
    pub before: Option<String>,
}

/// Writes a list of models. An id in `page` that is not in the list stands before the first model (or,
/// for `before`, behind the last): a list may change between two pages.
pub fn write_models(format: Format, models: &[Model], page: &Page) -> Value {
    match format {
        Format::Messages => {
            let (shown, has_more) = part(models, page, 20);
            json!({
                "data": shown.iter().map(anthropic).collect::<Vec<_>>(),
                "has_more": has_more,
                "first_id": shown.first().map(|model| &model.id),
                "last_id": shown.last().map(|model| &model.id),
            })
        }
        Format::GenerateContent => {
            let (shown, has_more) = part(models, page, 50);
            let mut body = json!({"models": shown.iter().map(google).collect::<Vec<_>>()});
            if let Some(last) = shown.last().filter(|_| has_more) {
                body["nextPageToken"] = last.id.as_str().into();
            }
            body
        }
        Format::Chat | Format::Responses | Format::Converse | Format::Cohere => {
            json!({"object": "list", "data": models.iter().map(openai).collect::<Vec<_>>()})
        }
    }
}

/// Writes one model, as `GET …/models/ID` answers.
pub fn write_model(format: Format, model: &Model) -> Value {
    match format {
        Format::Messages => anthropic(model),
        Format::GenerateContent => google(model),
        Format::Chat | Format::Responses | Format::Converse | Format::Cohere => openai(model),
    }
}

/// The models of a page, and whether there are more in the direction of paging.
fn part<'a>(models: &'a [Model], page: &Page, default: usize) -> (&'a [Model], bool) {
    let limit = page.limit.unwrap_or(default).clamp(1, 1000);
    let place = |id: &str| models.iter().position(|model| model.id == id);
    if let Some(before) = &page.before {
        let end = place(before).unwrap_or(models.len());
        let start = end.saturating_sub(limit);
        return (&models[start..end], start > 0);
    }
    let after = page.after.as_deref().and_then(place);
    let start = after.map_or(0, |at| at + 1);
    let end = models.len().min(start + limit);
    (&models[start..end], end < models.len())
}

fn openai(model: &Model) -> Value {
    let mut body = json!({
        "id": model.id,
        "object": "model",
        "created": model.created_s,
        "owned_by": model.owned_by.as_deref().unwrap_or("weir"),
    });
    // OpenAI says nothing of limits; this is the field of OpenRouter and others.
    if let Some(tokens) = model.context_tokens {
        body["context_length"] = tokens.into();
    }
    body
}

fn anthropic(model: &Model) -> Value {
    let mut body = json!({
        "type": "model",
        "id": model.id,
        "display_name": model.display_name.as_ref().unwrap_or(&model.id),
        "created_at": rfc3339(model.created_s),
    });
    for (key, tokens) in [
        ("max_input_tokens", model.context_tokens),
        ("max_tokens", model.max_output_tokens),
    ] {
        if let Some(tokens) = tokens {
            body[key] = tokens.into();
        }
    }
    body
}

fn google(model: &Model) -> Value {
    let mut body = Map::new();
    body.insert("name".to_owned(), format!("models/{}", model.id).into());
    let name = model.display_name.as_ref().unwrap_or(&model.id);
    body.insert("displayName".to_owned(), name.as_str().into());
    for (key, tokens) in [
        ("inputTokenLimit", model.context_tokens),
        ("outputTokenLimit", model.max_output_tokens),
    ] {
        if let Some(tokens) = tokens {
            body.insert(key.to_owned(), tokens.into());
        }
    }
    let methods = json!(["generateContent", "streamGenerateContent", "countTokens"]);
    body.insert("supportedGenerationMethods".to_owned(), methods);
    body.into()
}

/// A time in RFC 3339, UTC, by the civil calendar.
fn rfc3339(seconds: u64) -> String {
    // The last second of the year 9999, the last that RFC 3339 can write.
    let seconds = seconds.min(253_402_300_799);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years of this count begin in March, so that the leap day is the last of its year; an era is the
    // 400 years (146,097 days) after which the calendar repeats. 719,468 days lie before 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected, "{seconds}");
        }
    }

    fn models(n: usize) -> Vec<Model> {
        let model = |at: usize| Model {
            id: format!("m{at}"),
            ..Model::default()
        };
        (0..n).map(model).collect()
    }

    #[test]
    fn forms() {
        let model = Model {
            id: "smart".to_owned(),
            created_s: 1_735_689_599,
            context_tokens: Some(1000),
            max_output_tokens: Some(100),
            display_name: Some("Smart".to_owned()),
            owned_by: Some("openai".to_owned()),
        };
        let page = Page::default();
        let list = |format| write_models(format, std::slice::from_ref(&model), &page);
        assert_eq!(
            list(Format::Chat),
            json!({"object": "list", "data": [{"id": "smart", "object": "model", "created": 1_735_689_599,
                "owned_by": "openai", "context_length": 1000}]})
        );
        assert_eq!(
            list(Format::Messages),
            json!({"data": [{"type": "model", "id": "smart", "display_name": "Smart",
                "created_at": "2024-12-31T23:59:59Z", "max_input_tokens": 1000, "max_tokens": 100}],
                "has_more": false, "first_id": "smart", "last_id": "smart"})
        );
        assert_eq!(
            list(Format::GenerateContent),
            json!({"models": [{"name": "models/smart", "displayName": "Smart", "inputTokenLimit": 1000,
                "outputTokenLimit": 100,
                "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"]}]})
        );
        assert_eq!(
            write_models(Format::Messages, &[], &page),
            json!({"data": [], "has_more": false, "first_id": null, "last_id": null})
        );
        assert_eq!(write_model(Format::Chat, &models(1)[0])["owned_by"], "weir");
    }

    #[test]
    fn pages() {
        let all = models(45);
        let check =
            |after: Option<&str>, before: Option<&str>, limit, first: &str, last: &str, more: bool| {
                let page = Page {
                    limit,
                    after: after.map(str::to_owned),
                    before: before.map(str::to_owned),
                };
                let body = write_models(Format::Messages, &all, &page);
                assert_eq!(
                    (&body["first_id"], &body["last_id"], &body["has_more"]),
                    (&first.into(), &last.into(), &more.into()),
                    "{page:?}"
                );
            };
        check(None, None, None, "m0", "m19", true);
        check(Some("m19"), None, None, "m20", "m39", true);
        check(Some("m39"), None, None, "m40", "m44", false);
        check(None, Some("m20"), Some(5), "m15", "m19", true);
        check(None, Some("m3"), Some(5), "m0", "m2", false);
        check(Some("gone"), None, Some(5000), "m0", "m44", false);
        check(None, None, Some(0), "m0", "m0", true);
        let mut page = Page {
            limit: Some(40),
            ..Page::default()
        };
        let first = write_models(Format::GenerateContent, &all, &page);
        page.after = first["nextPageToken"].as_str().map(str::to_owned);
        let second = write_models(Format::GenerateContent, &all, &page);
        assert_eq!(second["models"].as_array().unwrap().len(), 5);
        assert_eq!(second.get("nextPageToken"), None);
    }
}
