//! Tests of suricata-verify: from the labels, or from its own files.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value};

use super::captures;
use super::check::Check;

/// One test: a capture, options of Suricata, checks.
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) capture: PathBuf,
    /// All of the command line's in one text.
    pub(crate) args: String,
    pub(crate) min_version: Option<String>,
    /// Of the whole test.
    pub(crate) requires: Map<String, Value>,
    pub(crate) checks: Vec<Check>,
}

/// The checks of each capture, each once.
pub(crate) fn by_capture<'a>(
    tests: impl Iterator<Item = &'a Test>,
) -> BTreeMap<&'a Path, Vec<(&'a Test, &'a Check)>> {
    let mut captures: BTreeMap<&Path, Vec<_>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for test in tests {
        for check in &test.checks {
            let text = Value::Object(check.wanted.clone()).to_string();
            // A label lists the tests of a file of another name again.
            if seen.insert((&test.name, text)) {
                captures.entry(&test.capture).or_default().push((test, check));
            }
        }
    }
    captures
}

pub(crate) fn of_labels(data: &Path) -> Vec<Test> {
    let mut found = Vec::new();
    for label in captures::lines(&data.join("labels.jsonl")) {
        let file = label["file"].as_str().expect("a file name");
        for test in label["suricata"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let args = test["args"].as_array().into_iter().flatten();
            let checks = test["checks"].as_array().into_iter().flatten();
            found.push(Test {
                name: text(&test["test"]).expect("a name"),
                capture: data.join(file),
                args: args.filter_map(text).collect::<Vec<_>>().join(" "),
                min_version: version(&test["min_version"]),
                requires: Map::new(),
                checks: checks.filter_map(Check::of).collect(),
            });
        }
    }
    found
}

fn version(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Every `test.yaml` under a folder.
pub(crate) fn of_folder(folder: &Path) -> Vec<Test> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        let entries = std::fs::read_dir(&at).expect("a readable folder");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        if at.join("test.yaml").is_file() {
            found.extend(of_file(folder, &at, &files));
        }
        folders.extend(files.into_iter().filter(|path| path.is_dir()));
    }
    found
}

fn of_file(root: &Path, folder: &Path, files: &[PathBuf]) -> Option<Test> {
    let text = std::fs::read_to_string(folder.join("test.yaml")).ok()?;
    let documents = Yaml::load_from_str(&text).ok()?;
    let test = json(documents.first()?);
    let capture = match test["pcap"].as_str() {
        Some(name) => folder.join(name),
        None => files
            .iter()
            .find(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "pcap" || extension == "pcapng")
            })?
            .clone(),
    };
    let checks = test["checks"].as_array().into_iter().flatten();
    let args = test["args"].as_array().into_iter().flatten();
    Some(Test {
        name: folder.strip_prefix(root).unwrap_or(folder).display().to_string(),
        capture: capture.is_file().then_some(capture)?,
        args: args.filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        min_version: version(&test["requires"]["min-version"]),
        requires: test["requires"].as_object().cloned().unwrap_or_default(),
        checks: checks.filter_map(|check| Check::of(&check["filter"])).collect(),
    })
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        Yaml::Value(Scalar::Boolean(yes)) => Value::from(*yes),
        Yaml::Sequence(list) => list.iter().map(json).collect(),
        Yaml::Mapping(map) => {
            let pairs = map.iter();
            pairs
                .filter_map(|(key, value)| Some((json(key).as_str()?.to_owned(), json(value))))
                .collect()
        }
        Yaml::Representation(text, ..) => Value::from(text.as_ref()),
        _ => Value::Null,
    }
}

#[test]
fn reads_a_test_of_suricata_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    let test = folder.path().join("some/test-1");
    std::fs::create_dir_all(&test).expect("room");
    std::fs::write(test.join("input.pcap"), b"").expect("room");
    let yaml = "requires:\n  min-version: 7.0.3\nargs:\n- -k none\nchecks:\n- filter:\n    count: 2\n    \
                match:\n      event_type: dns\n      dns.answers[0].ttl: 5\n- shell:\n    args: x\n";
    std::fs::write(test.join("test.yaml"), yaml).expect("room");
    let tests = of_folder(folder.path());
    let [test] = tests.as_slice() else {
        panic!("{} tests", tests.len());
    };
    assert_eq!(
        (test.name.as_str(), test.args.as_str()),
        ("some/test-1", "-k none")
    );
    assert_eq!(test.min_version.as_deref(), Some("7.0.3"));
    let [check] = test.checks.as_slice() else {
        panic!("{} checks", test.checks.len());
    };
    assert_eq!((check.count, check.event_type()), (2, "dns"));
    assert_eq!(check.wanted.get("dns.answers[0].ttl"), Some(&Value::from(5)));
}
