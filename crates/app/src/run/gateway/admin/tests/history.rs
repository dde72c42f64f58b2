//! Pages of keys, what ends with a consumer, and what a file has changed.

use super::*;

impl GatewayAdmin {
    /// Every page of a query.
    pub(super) fn all_keys(&self, query: &KeyQuery) -> Vec<Value> {
        let (mut query, mut all) = (query.clone(), Vec::new());
        loop {
            let page = self.keys(&query).expect("a page");
            let keys = page["keys"].as_array().expect("a list");
            assert!(query.limit.is_none_or(|limit| keys.len() <= limit));
            all.extend(keys.clone());
            query.cursor = match page["next"].as_str() {
                Some(next) => Some(next.to_owned()),
                None => return all,
            };
        }
    }
}

#[test]
fn keys_come_in_pages() {
    const TWO: &str = r#"{"consumers": [
        {"name": "shop", "keys": [{"value": "sk-weir-static-key", "name": "b"}, {"value": "sk-weir-another-key", "name": "a"}]},
        {"name": "desk", "keys": [{"value": "sk-weir-the-third-key", "name": "c"}]}
    ]}"#;
    let bench = Bench::new();
    let admin = bench.admin(TWO);
    admin.initial().expect("compiles");
    for (name, consumer) in [("k1", "shop"), ("k2", "desk"), ("k3", "shop")] {
        let new = NewKey {
            consumer: consumer.to_owned(),
            name: Some(name.to_owned()),
            expires_in_s: None,
        };
        admin.create_key(&new, "uid 0").expect("made");
    }
    let check = |consumer: Option<&str>, expected: &[&str]| {
        for limit in [None, Some(1), Some(2), Some(3), Some(6)] {
            let query = KeyQuery {
                consumer: consumer.map(str::to_owned),
                limit,
                ..KeyQuery::default()
            };
            let keys = admin.all_keys(&query);
            let ids: Vec<&str> = keys.iter().filter_map(|key| key["id"].as_str()).collect();
            assert_eq!(ids, expected, "{consumer:?} {limit:?}");
        }
    };
    check(None, &["a", "b", "c", "k1", "k2", "k3"]);
    check(Some("shop"), &["a", "b", "k1", "k3"]);
    check(Some("desk"), &["c", "k2"]);
    check(Some("nobody"), &[]);
    let wrong = |cursor: Option<&str>, limit: Option<usize>| {
        let query = KeyQuery {
            cursor: cursor.map(str::to_owned),
            limit,
            ..KeyQuery::default()
        };
        assert!(
            matches!(admin.keys(&query), Err(GatewayError::Invalid(_))),
            "{query:?}"
        );
    };
    wrong(Some("x"), None);
    wrong(Some("elsewhere:x"), None);
    wrong(None, Some(0));
    wrong(None, Some(100_000));
}

/// Keys end with their consumer, and whoever comes by its name later does not have them.
#[test]
fn keys_end_with_their_consumer() {
    let bench = Bench::new();
    let admin = bench.started();
    let desk = || put(Kind::Consumers, "desk", json!({}));
    admin.change(desk()).expect("made");
    let new = NewKey {
        consumer: "desk".to_owned(),
        name: Some("till".to_owned()),
        expires_in_s: None,
    };
    let made = admin.create_key(&new, "uid 0").expect("made");
    let key = made["key"].as_str().expect("shown once");
    let removal = || vec![delete(Kind::Consumers, "desk")];
    let plan = admin.apply(removal(), false, "uid 0", true).expect("a plan");
    assert_eq!(
        (plan.keys_revoked.as_slice(), bench.is_known(key)),
        (["till".to_owned()].as_slice(), true)
    );
    let done = admin.apply(removal(), false, "uid 0", false).expect("removed");
    assert_eq!(
        (done.keys_revoked.as_slice(), bench.is_known(key)),
        (["till".to_owned()].as_slice(), false)
    );
    admin.change(desk()).expect("made again");
    assert!(!bench.is_known(key));
    let again = admin.apply(removal(), false, "uid 0", false).expect("removed");
    assert_eq!(again.keys_revoked, Vec::<String>::new(), "it has ended already");
}

/// What a file changes is in the history, once, and without its secrets.
#[test]
fn changes_of_the_file_are_in_the_history() {
    let bench = Bench::new();
    let entries = |admin: &GatewayAdmin| -> Vec<String> {
        let audit = admin.audit(100, None).expect("a history");
        assert!(!audit.to_string().contains("sk-of-the-file"), "{audit}");
        let entries = audit["entries"].as_array().expect("a list").iter();
        let entries = entries.map(|entry| {
            let (name, author) = (entry["name"].as_str(), entry["author"].as_str());
            let what = match (entry["before"].is_null(), entry["after"].is_null()) {
                (true, _) => "+",
                (_, true) => "-",
                _ => "~",
            };
            format!(
                "{what}{} {}",
                name.unwrap_or_default(),
                author.unwrap_or_default()
            )
        });
        entries.collect()
    };
    let admin = bench.started();
    let first = ["+shop file weir.yaml", "+openai file weir.yaml"];
    assert_eq!(entries(&admin), first);
    // Read again, and started again: nothing is new.
    admin
        .reload(documents(FILE), Box::new(Process))
        .expect("the same");
    let admin = bench.started();
    assert_eq!(entries(&admin), first);
    let other = r#"{"consumers": [{"name": "shop", "team": "desk"}, {"name": "new"}]}"#;
    admin.reload(documents(other), Box::new(Process)).expect("taken");
    assert_eq!(
        entries(&admin)[..3],
        [
            "-openai file weir.yaml",
            "+new file weir.yaml",
            "~shop file weir.yaml"
        ]
    );
    // The name is free for the API now.
    admin
        .change(put(Kind::Providers, "openai", json!({"kind": "openai"})))
        .expect("made");
    assert!(entries(&admin)[0].starts_with("+openai "));
}
