use super::*;

/// The faults of a text, a line each as `line: field: words`; nothing if there are none.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = match parse(text, None) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .iter()
            .map(|fault| format!("{}: {}: {}", fault.line, fault.field, fault.words))
            .collect(),
    };
    assert_eq!(found, expected, "{text}");
}

#[test]
fn nothing_is_wrong() {
    check("", &[]);
    check("# only words\n", &[]);
    check("agent:\ncontrol: {}\n", &[]);
    check("agent: { interfaces: [eth0, \"1\"], xdp: on }", &[]);
    check(EXAMPLE, &[]);
}

#[test]
fn each_fault_has_its_line_and_all_are_told() {
    check(
        "agent:\n  interface: [eth0]\n  xdp: yes\n  flow_rows: 12\n  persist: 1\n\ncontrol:\n  listen: 9080\n  socket: weir.sock\nrules: {}\nwhat: 1\n",
        &[
            "2: agent.interface: no such field: write `interfaces` if that is meant",
            "3: agent.xdp: expected on or off, found `yes`",
            "4: agent.flow_rows: expected a whole number from 1024 to 16777216, found `12`",
            "5: agent.persist: expected true or false, found `1`",
            "8: control.listen: expected a text; put it in quotes if it looks like something else, found `9080`",
            "9: control.socket: expected a path from the root, as /run/weir/weir.sock, found `weir.sock`",
            "10: rules: this section is not in this version of Weir: remove it",
            "11: what: no such section: expected one of agent, control, store, gateway, providers, models, consumers, services, prompts, guardrails",
        ],
    );
}

#[test]
fn fields_that_only_look_right() {
    check(
        "agent:\n  interfaces: []\n  instance: a b\ncontrol: { listen: localhost }\n",
        &[
            "2: agent.interfaces: expected at least one name, or leave it out for the interface of the default route",
            "3: agent.instance: instance name `a b` is not a plain word: use letters, digits, `-` and `_`, at most 32",
            "4: control.listen: expected an address and a port, as 127.0.0.1:9080 or \"[::1]:9080\", found `localhost`",
        ],
    );
    check(
        "agent:\n  interfaces:\n    - eth0\n    - a very long name it is\n    - 7\n",
        &[
            "4: agent.interfaces[1]: expected the name of an interface, as eth0, found `a very long name it is`",
            "5: agent.interfaces[2]: expected a text; put it in quotes if it looks like something else, found `7`",
        ],
    );
    check(
        "agent: [eth0]\n",
        &[
            "1: agent: expected fields (interfaces, xdp, instance, persist, flow_rows, new_flows_per_s, geoip), found a list",
        ],
    );
    check(
        "agent: { new_flows_per_s: -1, flow_rows: 1.5 }\n",
        &[
            "1: agent.new_flows_per_s: expected a whole number from 0 to 4294967295, found `-1`",
            "1: agent.flow_rows: expected a whole number from 1024 to 16777216, found `1.5`",
        ],
    );
    check(
        "- agent\n",
        &[
            "1: : expected fields (agent, control, store, gateway, providers, models, consumers, services, prompts, guardrails), found a list",
        ],
    );
    check("1: 2\n", &["1: : expected the name of a field, found `1`"]);
}

#[test]
fn what_is_not_yaml_is_said_with_its_line() {
    for (text, line) in [
        ("agent:\n  - a\n b: [\n", 0),
        ("agent: {}\nagent: {}\n", 0),
        ("a: 1\n---\nb: 2\n", 3),
    ] {
        let faults = parse(text, None).expect_err(text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(line == 0 || faults[0].line == line, "{faults:?}");
        assert!(faults[0].line > 0, "{faults:?}");
    }
}

/// The example shows every field, with the default where there is one.
#[test]
fn the_example_is_whole() {
    let schema = schema();
    let parsed = parse(EXAMPLE, None).expect("valid");
    let built_in = Config::default();
    assert_eq!(
        (parsed.agent.xdp, parsed.agent.persist, parsed.agent.flow_rows),
        (
            built_in.agent.xdp,
            built_in.agent.persist,
            built_in.agent.flow_rows
        )
    );
    assert_eq!(
        (parsed.agent.new_flows_per_s, parsed.control.listen),
        (built_in.agent.new_flows_per_s, built_in.control.listen)
    );
    let mut n_fields = 0;
    for (section, within) in schema["properties"].as_object().expect("sections") {
        assert!(EXAMPLE.contains(&format!("\n{section}:")), "{section}");
        // What a document may say is in the schema; lists of them are shown by example.
        for field in within["properties"]
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys())
        {
            assert!(EXAMPLE.contains(&format!("\n  {field}:")), "{section}.{field}");
            n_fields += 1;
        }
    }
    assert_eq!(n_fields, 26, "{schema:#}");
}

/// Environment and files that are there.
struct Given;

impl Outside for Given {
    fn env(&self, name: &str) -> Result<String, String> {
        if name == "MISSING" {
            return Err("it is not set".to_owned());
        }
        Ok(format!("the value of {name}"))
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Ok(format!("the text of {path}"))
    }
}

/// The example compiles whole, down to its prompts and prices.
#[test]
fn the_example_compiles() {
    let config = parse(EXAMPLE, Some(&Given)).expect("compiles");
    let documents = config.gateway.expect("a gateway");
    let (snapshot, catalogue) = gateway::compile(&documents, &Given, 7).expect("compiles");
    assert_eq!(snapshot.generation, 7);
    let mut paths: Vec<&str> = snapshot.prompts.keys().map(|path| &**path).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "/prompts/data-analysis",
            "/prompts/sentiment",
            "/prompts/translate"
        ]
    );
    let unpriced: Vec<&str> = snapshot
        .models
        .values()
        .flat_map(|model| &model.targets)
        .filter(|target| target.prices.is_none())
        .map(|target| &*target.model)
        .collect();
    assert_eq!(unpriced, Vec::<&str>::new());
    let local = catalogue
        .lookup("local", "llama-3.1-8b")
        .expect("the operator's own");
    assert!(!local.assumed());
}

/// What only compiling tells has its line, also where a field is missing.
#[test]
fn faults_of_the_gateway_have_their_lines() {
    let text = "gateway:\n  catalogue:\n    - { provider: a }\nproviders:\n  - name: one\n    kind: openai\n    keys:\n      - env: MISSING\n  - name: two\n    kind: openai_compatible\nmodels:\n  - name: m\n    targets:\n      - model: three/x\n";
    let faults = parse(text, Some(&Given)).expect_err("faulty");
    let found: Vec<String> = faults
        .iter()
        .map(|fault| format!("{}: {}", fault.line, fault.field))
        .collect();
    assert_eq!(
        found,
        [
            "3: gateway.catalogue[0]",
            "8: providers[0].keys[0].env",
            "9: providers[1].base_url",
            "14: models[0].targets[0].model",
        ]
    );
    // Without a look at what it means, the same text passes.
    check(text, &[]);
}

/// What was recorded is said again; what was not asked for is not there.
#[test]
fn what_stands_outside_is_recorded() {
    let config = parse(
        "providers: [{ name: a, kind: openai, keys: [{ env: K }, { file: /f }] }]\n",
        None,
    );
    let documents = config.expect("valid").gateway.expect("a gateway");
    let recorded = gateway::Recorded::of(&documents, &Given);
    assert_eq!(recorded.env("K"), Ok("the value of K".to_owned()));
    assert_eq!(recorded.file("/f"), Ok("the text of /f".to_owned()));
    assert!(recorded.env("OTHER").is_err() && recorded.file("/g").is_err());
    assert!(!format!("{recorded:?}").contains("value"));
    let (snapshot, _) = gateway::compile(&documents, &recorded, 1).expect("compiles");
    assert_eq!(snapshot.providers["a"].keys[1].secret.expose(), "the text of /f");
}
