//! Where the secrets of documents are, and how they are hidden and found again.

use control::gateway::Kind;
use serde_json::Value;
use store::documents::{HIDDEN, hide};

/// JSON pointers of the secrets that stand in a document.
pub(crate) fn pointers(kind: Kind, body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match kind {
        Kind::Providers => {
            keys(body, &mut found);
            headers(&body["headers"], "/headers", &mut found);
        }
        Kind::Consumers => keys(body, &mut found),
        Kind::Services => {
            if body["jwt"]["secret"]["value"].is_string() {
                found.push("/jwt/secret/value".to_owned());
            }
            let routes = body["routes"].as_array().into_iter().flatten();
            for (at, route) in routes.enumerate() {
                for change in ["request_headers", "response_headers"] {
                    for how in ["set", "add"] {
                        headers(
                            &route[change][how],
                            &format!("/routes/{at}/{change}/{how}"),
                            &mut found,
                        );
                    }
                }
            }
        }
        Kind::Models | Kind::Prompts | Kind::Guardrails => {}
    }
    found
}

fn keys(body: &Value, found: &mut Vec<String>) {
    let keys = body["keys"].as_array().into_iter().flatten();
    let places = keys.enumerate().filter(|(_, key)| key["value"].is_string());
    found.extend(places.map(|(at, _)| format!("/keys/{at}/value")));
}

/// Headers whose names say that they hold one. Others, as `anthropic-version`, are shown.
fn headers(headers: &Value, path: &str, found: &mut Vec<String>) {
    const SECRET: [&str; 5] = ["auth", "key", "token", "secret", "cookie"];
    for (name, value) in headers.as_object().into_iter().flatten() {
        let lower = name.to_lowercase();
        if value.is_string() && SECRET.iter().any(|part| lower.contains(part)) {
            let name = name.replace('~', "~0").replace('/', "~1");
            found.push(format!("{path}/{name}"));
        }
    }
}

/// The document as it may be shown.
pub(crate) fn hidden(kind: Kind, body: &Value) -> Value {
    hide(body, &pointers(kind, body))
}

/// Puts the stored secrets where the document says `***`. Answers field and words of each that is not found.
pub(crate) fn restore(kind: Kind, body: &mut Value, stored: Option<&Value>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for pointer in pointers(kind, body) {
        if body.pointer(&pointer).and_then(Value::as_str) != Some(HIDDEN) {
            continue;
        }
        let kept = stored.and_then(|stored| stored_secret(&pointer, body, stored));
        match (kept, body.pointer_mut(&pointer)) {
            (Some(kept), Some(place)) => *place = kept,
            _ => faults.push((
                field(&pointer),
                "`***` keeps a stored secret, and none is stored here: write the secret itself".to_owned(),
            )),
        }
    }
    faults
}

fn stored_secret(pointer: &str, body: &Value, stored: &Value) -> Option<Value> {
    let kept = |secret: &Value| {
        secret
            .as_str()
            .is_some_and(|text| text != HIDDEN)
            .then(|| secret.clone())
    };
    let Some(at) = pointer
        .strip_prefix("/keys/")
        .and_then(|rest| rest.strip_suffix("/value"))
    else {
        return stored.pointer(pointer).and_then(kept);
    };
    let (new, old) = (body["keys"].as_array()?, stored["keys"].as_array()?);
    let at: usize = at.parse().ok()?;
    match new.get(at)?["name"].as_str() {
        Some(name) => old
            .iter()
            .find(|key| key["name"] == name)
            .and_then(|key| kept(&key["value"])),
        // By place; where keys went missing nobody can tell which, unless they have names.
        None if new.len() >= old.len() => old
            .get(at)
            .filter(|key| key["name"].is_null())
            .and_then(|key| kept(&key["value"])),
        None => None,
    }
}

/// A pointer as a field: `/keys/0/value` as `keys[0].value`.
pub(crate) fn field(pointer: &str) -> String {
    let mut out = String::new();
    for part in pointer.split('/').skip(1) {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            out.push_str(&format!("[{part}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    out
}

/// Fields of a document of the API that name what only a file may: variables and files of this host, which
/// whoever may write documents could otherwise send to an address of their own.
pub(crate) fn outside(kind: Kind, body: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut secret = |path: &str, secret: &Value| {
        for field in ["env", "file"] {
            if !secret[field].is_null() {
                found.push((
                    format!("{path}.{field}"),
                    "only the configuration file may name variables and files: write `value` here, which is stored encrypted"
                        .to_owned(),
                ));
            }
        }
    };
    for (at, key) in body["keys"].as_array().into_iter().flatten().enumerate() {
        secret(&format!("keys[{at}]"), key);
    }
    secret("jwt.secret", &body["jwt"]["secret"]);
    let mut file = |path: String, value: &Value| {
        if !value.is_null() {
            found.push((
                path,
                "only the configuration file may name files: move this document there".to_owned(),
            ));
        }
    };
    match kind {
        Kind::Providers => file("ca".to_owned(), &body["ca"]),
        Kind::Services => {
            file("jwt.jwks_file".to_owned(), &body["jwt"]["jwks_file"]);
            for (at, route) in body["routes"].as_array().into_iter().flatten().enumerate() {
                for (of, upstream) in route["upstreams"].as_array().into_iter().flatten().enumerate() {
                    file(format!("routes[{at}].upstreams[{of}].ca"), &upstream["ca"]);
                }
            }
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_and_kept() {
        let stored = json!({"name": "p", "keys": [{"value": "sk-a"}, {"value": "sk-b", "name": "b"}],
            "headers": {"x-api-key": "sk-h", "anthropic-version": "1", "a/b~key": "sk-e"}});
        let shown = hidden(Kind::Providers, &stored);
        assert!(!shown.to_string().contains("sk-"), "{shown}");
        assert_eq!(shown["headers"]["anthropic-version"], "1");
        let mut back = shown.clone();
        assert_eq!(restore(Kind::Providers, &mut back, Some(&stored)), []);
        assert_eq!(back, stored);
        // By name, wherever it stands now.
        let mut turned = json!({"keys": [{"value": "***", "name": "b"}, {"value": "sk-n"}]});
        assert_eq!(restore(Kind::Providers, &mut turned, Some(&stored)), []);
        assert_eq!(turned["keys"][0]["value"], "sk-b");
    }

    #[test]
    fn what_is_not_stored_cannot_be_kept() {
        let check = |kind, mut body: Value, stored: Option<Value>, expected: &[&str]| {
            let faults = restore(kind, &mut body, stored.as_ref());
            let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
            assert_eq!(fields, expected, "{body}");
        };
        let two = || Some(json!({"keys": [{"value": "sk-a"}, {"value": "sk-b"}]}));
        let hidden = || json!({"keys": [{"value": "***"}]});
        check(Kind::Providers, hidden(), None, &["keys[0].value"]);
        // Which of the two?
        check(Kind::Providers, hidden(), two(), &["keys[0].value"]);
        check(
            Kind::Consumers,
            json!({"keys": [{"value": "***", "name": "x"}, {"value": "n"}]}),
            two(),
            &["keys[0].value"],
        );
        check(
            Kind::Services,
            json!({"jwt": {"secret": {"value": "***"}}}),
            None,
            &["jwt.secret.value"],
        );
    }

    #[test]
    fn the_api_names_nothing_outside() {
        let check = |kind, body: Value, expected: &[&str]| {
            let found = outside(kind, &body);
            let fields: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
            assert_eq!(fields, expected, "{body}");
        };
        check(Kind::Providers, json!({"keys": [{"value": "x"}]}), &[]);
        check(
            Kind::Providers,
            json!({"keys": [{"env": "A"}, {"file": "/etc/shadow"}], "ca": "/ca.pem"}),
            &["keys[0].env", "keys[1].file", "ca"],
        );
        check(
            Kind::Services,
            json!({"jwt": {"secret": {"env": "A"}, "jwks_file": "/k"}, "routes": [{"upstreams": [{"ca": "/c"}]}]}),
            &["jwt.secret.env", "jwt.jwks_file", "routes[0].upstreams[0].ca"],
        );
    }
}
