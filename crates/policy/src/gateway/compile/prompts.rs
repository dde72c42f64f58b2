//! Prompts published as REST endpoints.

use super::Faults;
use super::models::parameters;
use crate::gateway::document::{self, Per};
use crate::gateway::limit;
use crate::gateway::output::Output;
use crate::gateway::snapshot::{Prompt, Snapshot, Variable};
use crate::gateway::template::Template;
use llm::catalogue::Catalogue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) fn prompts(
    prompts: &[document::Prompt],
    snapshot: &Snapshot,
    catalogue: &Catalogue,
    faults: &mut Faults,
) -> HashMap<Arc<str>, Arc<Prompt>> {
    let mut out: HashMap<Arc<str>, Arc<Prompt>> = HashMap::new();
    for (idx, one) in prompts.iter().enumerate() {
        let path = format!("prompts[{idx}]");
        let at: Arc<str> = match &one.path {
            Some(path) => path.as_str().into(),
            None => format!("/prompts/{}", one.name).into(),
        };
        if !at.starts_with('/') || at.contains(['?', '#', '*', '{', ' ']) {
            faults.add(
                format!("{path}.path"),
                format!("expected a path from the root, as /prompts/sentiment, found `{at}`"),
            );
        }
        if snapshot.model(&one.model, catalogue).is_err() {
            faults.add(
                format!("{path}.model"),
                format!("no model is called `{}`", one.model),
            );
        }
        let variables = one.variables.iter().map(|(name, variable)| {
            let variable = match variable {
                document::Variable::Plain(kind) => document::FullVariable {
                    kind: *kind,
                    ..document::FullVariable::default()
                },
                document::Variable::Full(full) => full.clone(),
            };
            (
                name.clone(),
                Variable {
                    kind: variable.kind,
                    description: variable.description,
                    default: variable.default,
                    choices: variable.choices,
                    max_length: variable.max_length,
                },
            )
        });
        let variables: BTreeMap<String, Variable> = variables.collect();
        let mut template = |text: &str, field: &str| {
            let field = format!("{path}.{field}");
            match Template::parse(text) {
                Ok(template) => {
                    for name in template.variables().filter(|name| !variables.contains_key(*name)) {
                        faults.add(
                            field.clone(),
                            format!("`{{{{ {name} }}}}` is not among the variables: add it there"),
                        );
                    }
                    template
                }
                Err(words) => {
                    faults.add(field, words);
                    Template::default()
                }
            }
        };
        let system = one.system.as_deref().map(|text| template(text, "system"));
        let template = template(&one.template, "template");
        parameters(&one.parameters, &path, faults);
        let output = one
            .output
            .as_ref()
            .and_then(|schema| match Output::new(schema.clone().into()) {
                Ok(output) => Some(output),
                Err(words) => {
                    faults.add(format!("{path}.output"), words);
                    None
                }
            });
        let prompt = Prompt {
            name: one.name.as_str().into(),
            path: Arc::clone(&at),
            model: one.model.clone(),
            variables,
            template,
            system,
            parameters: one.parameters.clone(),
            output,
            description: one.description.clone(),
            limits: limit::read(
                &one.limits,
                &format!("prompt/{}", one.name),
                Per::Service,
                &format!("{path}.limits"),
                faults,
            ),
            auth: one.auth.clone(),
        };
        if out.insert(Arc::clone(&at), Arc::new(prompt)).is_some() {
            faults.add(format!("{path}.path"), format!("`{at}` is another prompt's path"));
        }
    }
    out
}
