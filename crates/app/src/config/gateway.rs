//! The gateway's documents, checked and compiled, with what stands elsewhere: environment and files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;

use llm::catalogue::{Catalogue, ModelOverride};
use policy::gateway::compile::{self, Fault, Outside};
use policy::gateway::document::Documents;
use policy::gateway::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest file that a document may name: a key, certificates, a set of keys.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Environment and files of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process;

impl Outside for Process {
    fn env(&self, name: &str) -> Result<String, String> {
        std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => {
                format!("the environment variable `{name}` is not set: set it where weir is started")
            }
            std::env::VarError::NotUnicode(_) => {
                format!("the environment variable `{name}` is no UTF-8 text")
            }
        })
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let mut text = String::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_string(&mut text));
        match read {
            Ok(_) if text.len() as u64 > FILE_LEN_MAX => {
                Err(format!("the file `{path}` is longer than {FILE_LEN_MAX} bytes"))
            }
            Ok(_) => Ok(text),
            Err(error) => Err(format!("the file `{path}` cannot be read: {error}")),
        }
    }
}

/// What [`Outside`] said, to be said again where it cannot be asked: after privileges are gone, or when a
/// variable is no longer set. Holds secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    env: BTreeMap<String, Result<String, String>>,
    files: BTreeMap<String, Result<String, String>>,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Recorded({} variables, {} files)",
            self.env.len(),
            self.files.len()
        )
    }
}

impl Recorded {
    /// Everything that compiling these documents asks for.
    pub(crate) fn of(documents: &Documents, outside: &dyn Outside) -> Self {
        let recorder = Recorder::new(outside);
        // Faults are told when the documents are compiled in earnest, from what is recorded here.
        drop(compile(documents, &recorder, 0));
        recorder.recorded()
    }
}

impl Outside for Recorded {
    fn env(&self, name: &str) -> Result<String, String> {
        self.env.get(name).cloned().unwrap_or_else(|| {
            Err(format!(
                "the environment variable `{name}` was not named when weir was started"
            ))
        })
    }

    fn file(&self, path: &str) -> Result<String, String> {
        self.files
            .get(path)
            .cloned()
            .unwrap_or_else(|| Err(format!("the file `{path}` was not named when weir was started")))
    }
}

/// Asks another and keeps what it said.
pub(crate) struct Recorder<'a> {
    outside: &'a dyn Outside,
    recorded: RefCell<Recorded>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(outside: &'a dyn Outside) -> Self {
        Self {
            outside,
            recorded: RefCell::default(),
        }
    }

    pub(crate) fn recorded(self) -> Recorded {
        self.recorded.into_inner()
    }
}

impl Outside for Recorder<'_> {
    fn env(&self, name: &str) -> Result<String, String> {
        let said = self.outside.env(name);
        self.recorded
            .borrow_mut()
            .env
            .insert(name.to_owned(), said.clone());
        said
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let said = self.outside.file(path);
        self.recorded
            .borrow_mut()
            .files
            .insert(path.to_owned(), said.clone());
        said
    }
}

/// The shipped catalogue under `gateway.catalogue`.
pub(crate) fn catalogue(documents: &Documents) -> Result<Catalogue, Vec<Fault>> {
    let (mut overrides, mut faults) = (Vec::new(), Vec::new());
    let rows = documents.gateway.iter().flat_map(|gateway| &gateway.catalogue);
    for (at, row) in rows.enumerate() {
        match serde_json::from_value::<ModelOverride>(Value::Object(row.clone())) {
            Ok(row) => overrides.push(row),
            Err(error) => faults.push(Fault {
                field: format!("gateway.catalogue[{at}]"),
                words: error.to_string(),
            }),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Catalogue::with_overrides(overrides).map_err(|error| {
        vec![Fault {
            field: "gateway.catalogue".to_owned(),
            words: error.to_string(),
        }]
    })
}

/// Compiles documents with their own catalogue; everything that is wrong at once.
pub(crate) fn compile(
    documents: &Documents,
    outside: &dyn Outside,
    generation: u64,
) -> Result<(Snapshot, Catalogue), Vec<Fault>> {
    let (catalogue, mut faults) = match catalogue(documents) {
        Ok(catalogue) => (catalogue, Vec::new()),
        Err(faults) => (Catalogue::shipped().clone(), faults),
    };
    match compile::compile(documents, outside, &catalogue, generation) {
        Ok(snapshot) if faults.is_empty() => Ok((snapshot, catalogue)),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// What the schema says against sections of documents: `{"providers": [...]}`.
pub(crate) fn check_schema(sections: &Value) -> Vec<Fault> {
    // Every JSON document is a YAML document.
    let text = sections.to_string();
    let faults = match super::document::load(&text) {
        Ok(document) => super::document::check(&document, &super::schema()).faults,
        Err(faults) => faults,
    };
    let faults = faults.into_iter().map(|fault| Fault {
        field: fault.field,
        words: fault.words,
    });
    faults.collect()
}

/// The documents of a file that holds nothing else, checked against the schema: `{"providers": [...]}`, as
/// they are written.
pub(crate) fn read_sections(path: &std::path::Path) -> Result<Value, super::ConfigError> {
    let text = super::read_text(path)?;
    let faulty = |faults| super::ConfigError {
        file: path.display().to_string(),
        faults,
    };
    let document = super::document::load(&text).map_err(faulty)?;
    let mut checked = super::document::check(&document, &super::schema());
    for section in ["agent", "control", "store", "gateway"] {
        if checked.value.get(section).is_some() {
            checked.fault(
                section,
                "this section is for the file of `weir run` alone: remove it from what is applied",
            );
        }
    }
    if checked.faults.is_empty() {
        Ok(checked.value)
    } else {
        checked.faults.sort_by_key(|fault| fault.line);
        Err(faulty(checked.faults))
    }
}
