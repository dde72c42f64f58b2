//! The catalogue over a real file.

use serde_json::{Value, json};
use std::path::Path;
use store::StoreError;
use store::documents::{
    Action, Catalogue, CatalogueError, Change, HistoryQuery, IfMatch, Origin, Snapshot, SqliteCatalogue,
};
use store::seal::Sealer;
use store::worker::Worker;

const NOW: i64 = 1_795_214_605_123;

fn open(folder: &Path) -> SqliteCatalogue {
    let sealer = Sealer::open(&folder.join("store.key")).unwrap();
    SqliteCatalogue::open(&folder.join("catalogue.sqlite"), sealer).unwrap()
}

fn put(name: &str, body: Value) -> Change {
    Change {
        kind: "provider".to_owned(),
        name: name.to_owned(),
        origin: Origin::Api,
        if_match: IfMatch::Any,
        action: Action::Put {
            body,
            secrets: vec!["/keys/*/value".to_owned()],
        },
    }
}

fn delete(name: &str) -> Change {
    Change {
        action: Action::Delete,
        ..put(name, Value::Null)
    }
}

fn of_file(change: Change, file: &str) -> Change {
    Change {
        origin: Origin::File(file.to_owned()),
        ..change
    }
}

fn given(change: Change, if_match: IfMatch) -> Change {
    Change { if_match, ..change }
}

fn history(catalogue: &mut SqliteCatalogue) -> Vec<store::documents::AuditEntry> {
    catalogue
        .history(&HistoryQuery {
            limit: 100,
            ..HistoryQuery::default()
        })
        .unwrap()
}

#[test]
fn documents_are_kept_with_version_generation_author_and_history() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = open(folder.path());
    assert_eq!(catalogue.generation().unwrap(), 0);
    let first = catalogue
        .write(
            &[put("a", json!({"n": 1})), put("b", json!({"n": 2}))],
            "ann",
            NOW,
        )
        .unwrap();
    assert_eq!((first.generation, first.versions), (1, vec![1, 1]));
    let same = catalogue
        .write(&[put("a", json!({"n": 1}))], "bob", NOW + 1)
        .unwrap();
    assert_eq!((same.generation, same.versions), (1, vec![1]), "nothing differs");
    let second = catalogue
        .write(&[put("a", json!({"n": 3})), delete("b")], "bob", NOW + 2)
        .unwrap();
    assert_eq!((second.generation, second.versions), (2, vec![2, 2]));
    let again = catalogue
        .write(&[put("b", json!({"n": 4}))], "eve", NOW + 3)
        .unwrap();
    assert_eq!((again.generation, again.versions), (3, vec![3]), "versions go on");

    drop(catalogue);
    let mut catalogue = open(folder.path());
    let a = catalogue.get("provider", "a").unwrap().unwrap();
    assert_eq!(
        (a.version, a.generation, a.author.as_str(), a.at_ms),
        (2, 2, "bob", NOW + 2)
    );
    assert_eq!((a.body, a.origin), (json!({"n": 3}), Origin::Api));
    assert_eq!(catalogue.get("model", "a").unwrap(), None);
    let names = |documents: Vec<store::documents::Document>| -> Vec<String> {
        documents.into_iter().map(|document| document.name).collect()
    };
    assert_eq!(names(catalogue.list(None).unwrap()), ["a", "b"]);
    assert_eq!(
        names(catalogue.list(Some("model")).unwrap()),
        Vec::<String>::new()
    );
    let lines: Vec<_> = history(&mut catalogue)
        .into_iter()
        .map(|entry| (entry.name, entry.version, entry.author, entry.before, entry.after))
        .collect();
    let line = |name: &str, version, author: &str, before, after| {
        (name.to_owned(), version, author.to_owned(), before, after)
    };
    let n = |n: i32| Some(json!({"n": n}));
    let expected = [
        line("b", 3, "eve", None, n(4)),
        line("b", 2, "bob", n(2), None),
        line("a", 2, "bob", n(1), n(3)),
        line("b", 1, "ann", None, n(2)),
        line("a", 1, "ann", None, n(1)),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn history_comes_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = open(folder.path());
    for n in 0..10 {
        catalogue
            .write(&[put("a", json!(n)), put("b", json!(n))], "ann", NOW)
            .unwrap();
    }
    let mut query = HistoryQuery {
        kind: Some("provider".to_owned()),
        name: Some("b".to_owned()),
        before_id: None,
        limit: 4,
    };
    let mut seen = Vec::new();
    loop {
        let page = catalogue.history(&query).unwrap();
        let Some(last) = page.last() else { break };
        query.before_id = Some(last.id);
        seen.extend(page.into_iter().map(|entry| entry.after.unwrap()));
    }
    assert_eq!(seen, (0..10).rev().map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_set_of_changes_is_made_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = open(folder.path());
    catalogue
        .write(
            &[put("a", json!(1)), of_file(put("f", json!(1)), "weir.yaml")],
            "ann",
            NOW,
        )
        .unwrap();
    let mut check = |change: Change, expected: &str| {
        let refused = catalogue
            .write(&[put("new", json!(1)), change], "bob", NOW)
            .unwrap_err();
        assert_eq!(refused.to_string(), expected);
        assert_eq!(catalogue.get("provider", "new").unwrap(), None, "{expected}");
        assert_eq!(catalogue.generation().unwrap(), 1);
    };
    check(
        given(put("a", json!(2)), IfMatch::Version(2)),
        "provider `a` has version 1, expected version 2: read it again and repeat the change",
    );
    check(
        given(put("a", json!(2)), IfMatch::Absent),
        "provider `a` has version 1, expected none: read it again and repeat the change",
    );
    check(
        given(put("x", json!(2)), IfMatch::Version(1)),
        "provider `x` does not exist, expected version 1: read it again and repeat the change",
    );
    check(
        given(delete("a"), IfMatch::Version(9)),
        "provider `a` has version 1, expected version 9: read it again and repeat the change",
    );
    check(delete("x"), "there is no provider `x`");
    let of_that_file = "provider `f` comes from the file `weir.yaml`: change it there";
    check(put("f", json!(2)), of_that_file);
    check(delete("f"), of_that_file);
    check(
        of_file(put("a", json!(2)), "weir.yaml"),
        "provider `a` of the file `weir.yaml` exists already, made through the API: rename one or delete that one",
    );
    check(put("", json!(2)), "provider ``: kind and name must not be empty");
    check(
        put("a", json!("x".repeat(5 << 20))),
        "provider `a`: 5242882 bytes, at most 4194304 can be stored",
    );
    let done = catalogue.write(
        &[
            given(put("a", json!(2)), IfMatch::Version(1)),
            given(put("x", json!(2)), IfMatch::Absent),
            of_file(put("f", json!(1)), "other.yaml"),
        ],
        "bob",
        NOW,
    );
    assert_eq!(done.unwrap().versions, [2, 1, 2]);
    let f = catalogue.get("provider", "f").unwrap().unwrap();
    assert_eq!(f.origin, Origin::File("other.yaml".to_owned()));
}

fn bytes_in(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    bytes
}

#[test]
fn secrets_are_in_the_clear_in_memory_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = open(folder.path());
    let body = json!({"keys": [{"value": "sk-very-secret", "name": "main"}]});
    catalogue.write(&[put("a", body.clone())], "ann", NOW).unwrap();
    catalogue
        .write(
            &[put("a", json!({"keys": [{"value": "sk-other-secret"}]}))],
            "ann",
            NOW,
        )
        .unwrap();
    catalogue.write(&[put("a", body.clone())], "ann", NOW).unwrap();
    assert_eq!(
        catalogue
            .write(&[put("a", body.clone())], "ann", NOW)
            .unwrap()
            .versions,
        [3],
        "the same secret"
    );
    catalogue
        .keep_snapshot(&Snapshot {
            generation: 3,
            at_ms: NOW,
            body: json!({"all": "sk-very-secret"}),
        })
        .unwrap();
    let document = catalogue.get("provider", "a").unwrap().unwrap();
    assert_eq!(document.body, body);
    assert_eq!(
        document.redacted(),
        json!({"keys": [{"value": "***", "name": "main"}]})
    );
    let shown = format!(
        "{document:?} {:?} {:?}",
        put("a", body.clone()),
        history(&mut catalogue)
    );
    assert!(!shown.contains("secret"), "{shown}");
    drop(catalogue);
    let bytes = bytes_in(folder.path());
    for secret in ["sk-very-secret", "sk-other-secret"] {
        assert!(
            !bytes.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "{secret} is in a file"
        );
    }
    let refused = open(folder.path())
        .write(&[put("a", document.redacted())], "ann", NOW)
        .unwrap_err();
    assert!(matches!(refused, CatalogueError::Invalid { .. }), "{refused}");
}

#[test]
fn another_key_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let refused = SqliteCatalogue::open(&folder.path().join("catalogue.sqlite"), Sealer::new(&[9; 32]));
    assert!(matches!(refused, Err(StoreError::KeyFile { .. })), "{refused:?}");
    drop(open(folder.path()));
}

#[test]
fn the_last_good_snapshot_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = open(folder.path());
    assert_eq!(catalogue.last_snapshot().unwrap(), None);
    for generation in 1..3 {
        let snapshot = Snapshot {
            generation,
            at_ms: NOW,
            body: json!({"generation": generation}),
        };
        catalogue.keep_snapshot(&snapshot).unwrap();
        drop(catalogue);
        catalogue = open(folder.path());
        assert_eq!(catalogue.last_snapshot().unwrap(), Some(snapshot));
    }
}

#[test]
fn a_damaged_catalogue_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("catalogue.sqlite"), [3; 4_097]).unwrap();
    let mut catalogue = open(folder.path());
    assert_eq!(
        std::fs::read(&catalogue.set_aside().unwrap().kept_as).unwrap(),
        [3; 4_097]
    );
    assert_eq!(
        catalogue
            .write(&[put("a", json!(1))], "ann", NOW)
            .unwrap()
            .generation,
        1
    );
}

#[tokio::test]
async fn one_catalogue_serves_many_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue: Box<dyn Catalogue> = Box::new(open(folder.path()));
    let catalogue = std::sync::Arc::new(Worker::start("catalogue", catalogue).unwrap());
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move {
                // Each adds one, and begins again where another was first.
                loop {
                    let there = catalogue
                        .call(|catalogue| catalogue.get("provider", "n"))
                        .await
                        .unwrap()
                        .unwrap();
                    let (n, if_match) = there.map_or((0, IfMatch::Absent), |document| {
                        (
                            document.body.as_i64().unwrap(),
                            IfMatch::Version(document.version),
                        )
                    });
                    let change = given(put("n", json!(n + 1)), if_match);
                    match catalogue
                        .call(move |catalogue| catalogue.write(&[change], "all", NOW))
                        .await
                        .unwrap()
                    {
                        Ok(_) => return,
                        Err(CatalogueError::Conflict { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let last = catalogue
        .call(|catalogue| catalogue.get("provider", "n"))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!((last.body, last.version), (json!(20), 20));
}
