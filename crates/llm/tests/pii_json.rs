//! Personal data in JSON: requests to models, and bodies of REST services.

use llm::pii::{JsonPath, Rule, Scrubber, Side, StreamRestorer, Vault};
use serde_json::{Value, json};

fn scrubber(rules: &Value) -> Scrubber {
    let rules: Vec<Rule> = serde_json::from_value(rules.clone()).unwrap();
    Scrubber::compile(&rules, Side::Both, "pii").unwrap()
}

fn check(rules: &Value, skip: &[&str], document: Value, expected: &Value) {
    assert!(skip.iter().all(|path| JsonPath::parse(path).is_ok()));
    let mut out = document;
    scrubber(rules).scrub_json(&mut out, skip, &mut Vault::new(7));
    assert_eq!(&out, expected, "{rules}");
}

#[test]
fn strings_numbers_and_keys() {
    let rules = json!([{"kind": "email"}, {"kind": "phone"}, {"kind": "card"}, {"kind": "ip"}, {"kind": "national_id"}]);
    check(
        &rules,
        &[],
        json!({
            "mail": "a@b.co", "phone": "4155552671", "order": "4155552671", "mobile": 4155552671u64, "n": 4155552671u64,
            "card": 4111111111111111u64, "ssn": 536228726, "deep": [{"ip": ["203.0.113.7", 1.5, true, null]}],
            "a@b.co": 1, "c@d.co": 2, "version": "1.2.3.4"
        }),
        &json!({
            "mail": "[EMAIL]", "phone": "[PHONE]", "order": "4155552671", "mobile": "[PHONE]", "n": 4155552671u64,
            "card": "[CARD]", "ssn": "[NATIONAL_ID]", "deep": [{"ip": ["[IP]", 1.5, true, null]}],
            "[EMAIL]": 1, "[EMAIL] 2": 2, "version": "1.2.3.4"
        }),
    );
}

#[test]
fn a_chat_request_but_for_some_paths() {
    let request = json!({
        "model": "x@y.co",
        "messages": [
            {"role": "user", "content": "I am ann@example.com"},
            {"role": "user", "content": [{"type": "text", "text": "call 415-555-2671"}]},
            {"role": "assistant", "tool_calls": [{"id": "c@d.co", "function": {"name": "f",
                "arguments": "{\"to\": \"ann@example.com\", \"phone\": 4155552671, \"n\": 1}"}}]},
            {"role": "tool", "tool_call_id": "c@d.co", "content": "{\"kept\": 1.0}"}
        ]
    });
    check(
        &json!([{"kind": "email", "action": "reversible"}, {"kind": "phone"}]),
        &[
            "model",
            "messages[*].tool_calls[*].id",
            "messages[*]['tool_call_id']",
        ],
        request,
        &json!({
            "model": "x@y.co",
            "messages": [
                {"role": "user", "content": "I am [EMAIL_1]"},
                {"role": "user", "content": [{"type": "text", "text": "call [PHONE]"}]},
                {"role": "assistant", "tool_calls": [{"id": "c@d.co", "function": {"name": "f",
                    "arguments": "{\"to\":\"[EMAIL_1]\",\"phone\":\"[PHONE]\",\"n\":1}"}}]},
                {"role": "tool", "tool_call_id": "c@d.co", "content": "{\"kept\": 1.0}"}
            ]
        }),
    );
}

#[test]
fn fields_of_rest_bodies() {
    let body = json!({
        "customer": {"fullName": "Ann Lee", "first_name": "Ann", "dob": "1980-02-03", "balance": 1234.5, "note": "VIP acme"},
        "orders": [{"total_price": "19.99 EUR", "created": "2024-05-06T12:30:00Z", "ref": "R-2024"}, {"total_price": 7}],
        "filename": "a.txt", "时间": "2024/05/06"
    });
    check(
        &json!([{"kind": "name", "action": "truncate", "keep_first": 1}, {"kind": "amount"}, {"kind": "date"},
            {"keywords": ["acme"]}]),
        &[],
        body.clone(),
        &json!({
            "customer": {"fullName": "A", "first_name": "A", "dob": "[DATE]", "balance": "[AMOUNT]", "note": "VIP [KEYWORD]"},
            "orders": [{"total_price": "[AMOUNT]", "created": "[DATE]", "ref": "R-2024"}, {"total_price": "[AMOUNT]"}],
            "filename": "a.txt", "时间": "[DATE]"
        }),
    );
    check(
        &json!([{"json_path": "orders[*].total_price", "action": "replace", "text": "0"},
            {"json_path": "$.customer.*", "label": "PRIVATE"}, {"json_path": "orders[0]"}]),
        &[],
        body.clone(),
        &json!({
            "customer": {"fullName": "[PRIVATE]", "first_name": "[PRIVATE]", "dob": "[PRIVATE]", "balance": "[PRIVATE]",
                "note": "[PRIVATE]"},
            "orders": [{"total_price": "[FIELD]", "created": "[FIELD]", "ref": "[FIELD]"}, {"total_price": 0}],
            "filename": "a.txt", "时间": "2024/05/06"
        }),
    );
    let mut shuffled = body;
    let rules = json!([{"kind": "amount", "action": "shuffle"}]);
    let found = scrubber(&rules).scrub_json(&mut shuffled, &[], &mut Vault::new(7));
    assert_eq!(found.count("AMOUNT"), 3);
    assert!(shuffled["customer"]["balance"].is_number());
}

#[test]
fn tokens_in_json_come_back() {
    let rules = json!([{"regex": "'[^']*'", "label": "QUOTE", "action": "reversible"}, {"kind": "email", "action": "reversible"}]);
    let document = json!({"say": "'a \"b\" \\c'", "to": ["ann@example.com"], "bob@example.com": {"n": 1}});
    let (mut scrubbed, mut vault) = (document.clone(), Vault::new(7));
    scrubber(&rules).scrub_json(&mut scrubbed, &[], &mut vault);
    assert_eq!(
        scrubbed,
        json!({"say": "[QUOTE_1]", "to": ["[EMAIL_1]"], "[EMAIL_2]": {"n": 1}})
    );
    let text = scrubbed.to_string();
    for (at, _) in text.char_indices() {
        let mut restorer = StreamRestorer::json();
        let mut out = restorer.push(&text[..at], &vault);
        out.push_str(&restorer.push(&text[at..], &vault));
        out.push_str(&restorer.finish());
        assert_eq!(
            serde_json::from_str::<Value>(&out).unwrap(),
            document,
            "cut at {at}"
        );
    }
    vault.restore_json(&mut scrubbed);
    assert_eq!(scrubbed, document);
    let mut call = json!({"arguments": "{\"q\":\"[QUOTE_1]\"}"});
    vault.restore_json(&mut call);
    let inner: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(inner["q"], document["say"]);
}

#[test]
fn paths() {
    for good in ["a", "$.a.b", "a[*].b", "a[3]", "[0]", "a['x.y'].*", "$"] {
        assert!(JsonPath::parse(good).is_ok(), "{good}");
    }
    let long = "a.".repeat(40) + "a";
    for bad in ["", "a..b", "a.", "a[", "a[x]", "a['b]", "a[*]b", long.as_str()] {
        let rules = json!([{"json_path": bad}]);
        let rules: Vec<Rule> = serde_json::from_value(rules).unwrap();
        let error = Scrubber::compile(&rules, Side::Both, "pii").unwrap_err();
        assert_eq!(error.field, "pii[0].json_path", "{bad}: {error}");
    }
}

#[test]
fn what_nests_too_deep_is_cut_off_and_counted() {
    let mut value = json!("a@b.co");
    for _ in 0..200 {
        value = json!([value]);
    }
    let found = scrubber(&json!([{"kind": "email"}])).scrub_json(&mut value, &[], &mut Vault::new(0));
    assert_eq!((found.total(), found.too_deep()), (0, 1));
    assert!(!value.to_string().contains('@'));
}
