//! The endpoints as an OpenAPI document. Written by hand, for it is read by people and by
//! generators of clients, and held to the routes by a test.

/// OpenAPI 3.1, JSON.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::DOCUMENT;
    use crate::routes::{FLOWS_MAX, endpoints};
    use crate::status::{Aggregate, AggregateDirection, Drop, Interface, InterfaceTraffic, Status};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let served: BTreeSet<_> = endpoints()
            .iter()
            .map(|(method, path, _)| (method.as_str().to_ascii_lowercase(), (*path).to_owned()))
            .collect();
        let mut written = BTreeSet::new();
        for (path, methods) in document()["paths"].as_object().unwrap() {
            written.extend(
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (method.clone(), path.clone())),
            );
        }
        assert_eq!(written, served);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut references = Vec::new();
        collect_references(&document, &mut references);
        assert!(references.len() > 20);
        for reference in references {
            let target = document.pointer(reference.trim_start_matches('#'));
            assert!(target.is_some(), "{reference}");
        }
    }

    fn collect_references(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(target) if name == "$ref" => references.push(target.clone()),
                        value => collect_references(value, references),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect_references(item, references)),
            _ => {}
        }
    }

    #[test]
    fn schemas_have_the_fields_that_are_sent() {
        #[track_caller]
        fn check(schema: &str, sent: &Value) {
            let document = document();
            let fields =
                |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
            let written = &document["components"]["schemas"][schema]["properties"];
            assert_eq!(fields(written), fields(sent), "{schema}");
        }
        let status = Status {
            hostname: Some("here".into()),
            drops: vec![Drop::default()],
            ..Status::default()
        };
        let status = json!(status);
        check("Status", &status);
        check("Interface", &json!(Interface::default()));
        check("InterfaceTraffic", &json!(InterfaceTraffic::default()));
        check(
            "Aggregate",
            &json!(Aggregate {
                addr: [192, 0, 2, 1].into(),
                port: 53,
                proto: "udp".into(),
                direction: AggregateDirection::To,
                iface: None,
                packets: 1,
                bytes: 60,
                adopted_packets: 0,
            }),
        );
        let limit = document()["paths"]["/api/v1/flows"]["get"]["parameters"][3]["schema"]["maximum"].clone();
        assert_eq!(limit, json!(FLOWS_MAX));
    }
}
