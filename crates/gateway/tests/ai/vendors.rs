//! Providers with ways of their own: how Google Vertex is told who asks, and where Azure has what.

use super::kit::*;
use policy::gateway::document::Documents;
use serde_json::{Value, json};
use store::outcome::Outcome;

/// Of nobody: made for this test.
const PRIVATE: &str = include_str!("account.pem");
const PUBLIC: &str = include_str!("account.pub.pem");

const GEMINI: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello."}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":7,"totalTokenCount":18}}"#;

/// The key of a service account, as Google hands it out.
fn account(fake: &Fake, email: &str) -> String {
    json!({
        "type": "service_account", "client_email": email, "private_key_id": "kid-1", "private_key": PRIVATE,
        "token_uri": format!("http://{}/token", fake.address),
    })
    .to_string()
}

fn vertex(fake: &Fake, key: &str) -> Value {
    documents(
        fake,
        json!({ "providers": [{
            "name": "ve", "kind": "vertex", "base_url": format!("http://{}/v1", fake.address),
            "parameters": { "project": "p", "location": "europe-west1" }, "models": ["gemini-2.5-flash-lite"],
            "keys": [{ "value": key, "name": "account" }],
        }]}),
    )
}

/// The form of an exchange, as its endpoint must find it, and whose claim it holds.
#[track_caller]
fn claimed(seen: &Seen, token_uri: &str) -> String {
    assert_eq!(
        seen.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    let assertion = seen
        .body
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .expect("an assertion");
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(PUBLIC.as_bytes()).expect("a key");
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    rules.set_audience(&[token_uri]);
    let token =
        jsonwebtoken::decode::<Value>(assertion, &key, &rules).expect("signed with the account's key");
    assert_eq!(token.header.kid.as_deref(), Some("kid-1"));
    let claims = token.claims;
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    let lasts = claims["exp"].as_u64().zip(claims["iat"].as_u64());
    assert_eq!(lasts.map(|(end, start)| end - start), Some(3600));
    claims["iss"].as_str().expect("a name").to_owned()
}

#[test]
fn vertex_exchanges_its_key_for_a_token() {
    let fake = Fake::new(|_| Vec::new());
    let at = format!("http://{}/token", fake.address);
    fake.does(move |seen| match seen.line.as_str() {
        "POST /token" => {
            let token = format!("of-{}", claimed(seen, &at));
            let granted = json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer" });
            reply(200, "", granted.to_string())
        }
        _ => reply(200, "", GEMINI),
    });
    let site = Site::new(vertex(&fake, &account(&fake, "one@example")));
    // How many tokens were asked for by calls that all must use that one.
    let ask = |n: usize, token: &str| {
        for _ in 0..n {
            let got = site.post("/v1/chat/completions", chat("ve/gemini-2.5-flash-lite"));
            assert_eq!(got.status, 200, "{}", got.body);
            assert_eq!(got.json()["choices"][0]["message"]["content"], "Hello.");
            assert_eq!(site.record().outcome, Outcome::Ok);
        }
        let seen = fake.take();
        let (exchanges, calls): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.line == "POST /token");
        assert_eq!(calls.len(), n);
        for call in calls {
            let at = "POST /v1/projects/p/locations/europe-west1/publishers/google/models/gemini-2.5-flash-lite:generateContent";
            assert_eq!(call.line, at);
            assert_eq!(
                call.header("authorization"),
                Some(format!("Bearer {token}").as_str())
            );
        }
        exchanges.len()
    };
    // Each thread has one of its own, and keeps it.
    let n_exchanges = ask(20, "of-one@example");
    assert!((1..=4).contains(&n_exchanges), "{n_exchanges}");
    // Another account under the same name of key.
    site.publish(vertex(&fake, &account(&fake, "two@example")), 2);
    assert!(ask(20, "of-two@example") >= 1);
    // A key that is no account is a token itself.
    site.publish(vertex(&fake, "ya29.plain"), 3);
    assert_eq!(ask(5, "ya29.plain"), 0);
}

#[test]
fn vertex_without_a_token_is_told_without_a_secret() {
    let fake = Fake::new(|_| Vec::new());
    let check = |key: String, answer: Vec<Step>| {
        let site = Site::new(vertex(&fake, &key));
        fake.says(answer);
        let got = site.post("/v1/chat/completions", chat("ve/gemini-2.5-flash-lite"));
        assert_eq!(got.status, 502, "{}", got.body);
        assert_eq!(got.json()["error"]["code"], "provider_misconfigured");
        for hidden in ["one@example", "PRIVATE", "token"] {
            assert!(!got.body.contains(hidden), "{hidden} in {}", got.body);
        }
        let asked = fake.take();
        assert!(asked.iter().all(|seen| seen.line == "POST /token"), "{asked:?}");
    };
    let good = account(&fake, "one@example");
    check(good.clone(), reply(400, "", r#"{"error":"invalid_grant"}"#));
    check(good.clone(), reply(200, "", r#"{"nothing":1}"#));
    check(good.clone(), reply(200, "", "no JSON"));
    check("{}".to_owned(), Vec::new());
    let broken = good.replace("BEGIN PRIVATE", "BEGIN NOTHING");
    check(broken, Vec::new());
}

#[test]
fn azure_has_deployments_in_its_paths() {
    let fake = Fake::new(|_| Vec::new());
    let at = |path: &str| format!("http://{}{path}", fake.address);
    let provider = |name: &str, kind: &str, base: &str, more: Value| {
        let mut parameters = json!({ "resource": "r" });
        let fields = parameters.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        json!({
            "name": name, "kind": kind, "base_url": at(base), "parameters": parameters,
            "keys": [{ "value": PROVIDER_KEY }], "models": ["my-gpt"],
        })
    };
    let site = Site::before(
        &fake,
        json!({ "providers": [
            provider("az", "azure", "", json!({})),
            provider("preview", "azure", "", json!({ "api_version": "2025-01-01-preview" })),
            provider("one", "azure_v1", "/openai/v1", json!({})),
        ]}),
    );
    let embedded = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"t","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let completed = r#"{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let check = |path: &str, body: String, answer: &str, target: &str| {
        fake.says(reply(200, "", answer));
        let got = site.post(path, &body);
        assert_eq!(got.status, 200, "{path} {body}: {}", got.body);
        let seen = fake.one();
        assert_eq!(seen.line, format!("POST {target}"), "{path} {body}");
        assert_eq!(seen.header("api-key"), Some(PROVIDER_KEY));
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(site.record().outcome, Outcome::Ok);
    };
    let of = |text: &str, provider: &str| text.replace('M', &format!("{provider}/my-gpt"));
    let (input, prompt) = (r#"{"model":"M","input":"hi"}"#, r#"{"model":"M","prompt":"hi"}"#);
    check(
        "/v1/chat/completions",
        chat("az/my-gpt"),
        ANSWER,
        "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
    );
    check(
        "/v1/chat/completions",
        chat("preview/my-gpt"),
        ANSWER,
        "/openai/deployments/my-gpt/chat/completions?api-version=2025-01-01-preview",
    );
    check(
        "/v1/embeddings",
        of(input, "az"),
        embedded,
        "/openai/deployments/my-gpt/embeddings?api-version=2024-10-21",
    );
    check(
        "/v1/completions",
        of(prompt, "az"),
        completed,
        "/openai/deployments/my-gpt/completions?api-version=2024-10-21",
    );
    check(
        "/v1/chat/completions",
        chat("one/my-gpt"),
        ANSWER,
        "/openai/v1/chat/completions",
    );
    check(
        "/v1/embeddings",
        of(input, "one"),
        embedded,
        "/openai/v1/embeddings",
    );
    let responded = r#"{"id":"r","object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"message","id":"m","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello.","annotations":[]}]}],"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}"#;
    check(
        "/v1/responses",
        of(input, "one"),
        responded,
        "/openai/v1/responses",
    );
}

/// Without an address of its own a provider's is made of its parameters.
#[test]
fn addresses_are_made_of_parameters() {
    struct Nothing;
    impl policy::gateway::compile::Outside for Nothing {
        fn env(&self, _: &str) -> Result<String, String> {
            Err("not set".to_owned())
        }
        fn file(&self, _: &str) -> Result<String, String> {
            Err("no such file".to_owned())
        }
    }
    let check = |kind: &str, parameters: Value, expected: Result<&str, &str>| {
        let documents: Documents = serde_json::from_value(json!({ "providers": [{
            "name": "x", "kind": kind, "parameters": parameters, "keys": [{ "value": "k" }],
        }]}))
        .expect("documents");
        let compiled =
            policy::gateway::compile::compile(&documents, &Nothing, llm::catalogue::Catalogue::shipped(), 1);
        match (compiled, expected) {
            (Ok(snapshot), Ok(expected)) => {
                let provider = &snapshot.providers["x"];
                assert_eq!(format!("{}{}", provider.origin, provider.base_path), expected);
            }
            (Err(faults), Err(expected)) => {
                assert!(faults[0].words.contains(expected), "{faults:?}");
                assert_eq!(faults[0].field, "providers[0].parameters");
            }
            (got, _) => panic!("{kind} {parameters}: {got:?}"),
        }
    };
    check(
        "azure",
        json!({ "resource": "r" }),
        Ok("https://r.openai.azure.com"),
    );
    check("azure", json!({}), Err("resource"));
    check("vertex", json!({ "location": "us-east1" }), Err("project"));
    check(
        "azure_v1",
        json!({ "resource": "r" }),
        Ok("https://r.openai.azure.com/openai/v1"),
    );
    check(
        "vertex",
        json!({ "project": "p" }),
        Ok("https://aiplatform.googleapis.com/v1"),
    );
    check(
        "vertex",
        json!({ "project": "p", "location": "us-east1" }),
        Ok("https://us-east1-aiplatform.googleapis.com/v1"),
    );
    check(
        "bedrock",
        json!({ "region": "eu-west-1" }),
        Ok("https://bedrock-runtime.eu-west-1.amazonaws.com"),
    );
}
