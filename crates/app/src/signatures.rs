//! Signatures out of files, and those that ship.

use std::path::PathBuf;
use std::sync::Arc;

use inspect::signature::{Ruleset, SHIPPED, parse};

/// Compiles the rules of these files, and those that ship if `with_shipped`; `None` if there are no rules.
///
/// # Errors
/// Every fault with its file and line, one a line.
pub(crate) fn load(files: &[PathBuf], with_shipped: bool) -> Result<Option<Arc<Ruleset>>, String> {
    let variables = parse::default_variables();
    let mut rules = Vec::new();
    let mut faults = Vec::new();
    if with_shipped {
        let (shipped, errors) = parse(SHIPPED, &variables);
        rules.extend(shipped);
        faults.extend(errors.iter().map(|error| format!("shipped rules: {error}")));
    }
    for file in files {
        let name = file.display();
        match std::fs::read_to_string(file) {
            Err(error) => faults.push(format!("{name}: {error}")),
            Ok(text) => {
                let (read, errors) = parse(&text, &variables);
                faults.extend(errors.iter().map(|error| format!("{name}: {error}")));
                for rule in read {
                    if rules
                        .iter()
                        .any(|known: &inspect::signature::Rule| known.sid == rule.sid)
                    {
                        faults.push(format!(
                            "{name}: sid {} is that of another rule already",
                            rule.sid
                        ));
                    } else {
                        rules.push(rule);
                    }
                }
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    if rules.is_empty() {
        return Ok(None);
    }
    let ruleset = Ruleset::new(rules).map_err(|error| error.what)?;
    Ok(Some(Arc::new(ruleset)))
}
