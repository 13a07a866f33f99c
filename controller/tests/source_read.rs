//! From bytes to documents: syntax, types of scalars, limits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails"
)]

use controller::source::load_bytes;

/// The problems of one file, `None` if there are none.
fn problems(name: &str, bytes: &[u8]) -> Option<String> {
    load_bytes([(name, bytes)])
        .err()
        .map(|errors| errors.to_string())
}

#[track_caller]
fn refused(name: &str, text: impl AsRef<[u8]>, expected: &str) {
    let found = problems(name, text.as_ref()).expect("must be refused");
    assert!(
        found.contains(expected),
        "expected {expected:?} in {found:?}"
    );
    assert!(
        found.lines().all(|line| line.starts_with(name)),
        "no file name in {found:?}"
    );
}

/// A namespace whose only annotation, `a`, has the value as written.
fn annotated(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n  annotations:\n    a: {value}\n"
    )
}

/// A pod with the port as written.
fn with_port(port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    ports:\n    - containerPort: {port}\n"
    )
}

fn port(text: &str) -> i32 {
    let text = with_port(text);
    let loaded = load_bytes([("p.yaml", text.as_bytes())]).expect("a good pod");
    let pod = loaded
        .objects
        .iter()
        .find_map(|sourced| match &sourced.object {
            policy_compiler::api::Object::Pod(pod) => pod.spec.clone(),
            _ => None,
        });
    pod.unwrap().containers.unwrap()[0].ports.as_ref().unwrap()[0].container_port
}

fn names(name: &str, text: &str) -> Vec<String> {
    let loaded = load_bytes([(name, text.as_bytes())]).expect("good objects");
    let read = loaded
        .objects
        .iter()
        .filter(|sourced| sourced.object.kind() == "Namespace");
    read.map(|sourced| sourced.object.metadata().name.clone().unwrap())
        .collect()
}

#[test]
fn several_documents_and_empty_ones_are_read() {
    let text = "---\n# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\n\
                ~\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n...\n";
    assert_eq!(names("x.yaml", text), ["a", "b"]);
    assert_eq!(names("x.yaml", ""), [""; 0]);
    assert_eq!(names("x.json", " \n"), [""; 0]);
    assert_eq!(names("x.yaml", "# nothing\n---\n"), [""; 0]);
}

#[test]
fn the_line_of_a_document_is_that_of_its_first_key() {
    let text = "# head\n---\n# Source: chart\napiVersion: v1\nkind: Pod\n---\n\napiVersion: v1\nkind: Node\n";
    let found = problems("x.yaml", text.as_bytes()).unwrap();
    assert_eq!(
        found,
        "x.yaml:4: Pod: metadata.name: is required\nx.yaml:8: Node: metadata.name: is required"
    );
}

#[test]
fn crlf_and_a_byte_order_mark_change_nothing() {
    let text = "\u{feff}apiVersion: v1\r\nkind: Namespace\r\nmetadata:\r\n  name: a\r\n---\r\napiVersion: v1\r\n\
                kind: Namespace\r\nmetadata:\r\n  name: b\r\n";
    assert_eq!(names("x.yaml", text), ["a", "b"]);
    let json = "\u{feff}{\"apiVersion\":\"v1\",\r\n\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}\r\n";
    assert_eq!(names("x.json", json), ["a"]);
}

#[test]
fn a_stream_of_json_values_is_read_also_without_the_name_json() {
    let one = |name: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{{\"name\":\"{name}\"}}}}"
        )
    };
    let text = format!("{}\n{}{}", one("a"), one("b"), one("c"));
    assert_eq!(names("x.json", &text), ["a", "b", "c"]);
    assert_eq!(names("<stdin>", &text), ["a", "b", "c"]);
}

#[test]
fn the_line_of_a_json_value_is_where_it_starts() {
    let text = "\n{\"apiVersion\":\"v1\",\n\"kind\":\"Pod\"}\n\n  {\"apiVersion\":\"v1\",\"kind\":\"Node\"}";
    let found = problems("x.json", text.as_bytes()).unwrap();
    assert_eq!(
        found,
        "x.json:2: Pod: metadata.name: is required\nx.json:5: Node: metadata.name: is required"
    );
}

#[test]
fn a_flow_mapping_in_a_yaml_file_is_not_taken_for_json() {
    assert_eq!(
        names(
            "x.yaml",
            "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"
        ),
        ["a"]
    );
    refused("x.json", "{apiVersion: v1}", "x.json:1: invalid JSON");
}

#[test]
fn json_objects_may_have_yaml_separators_between_them() {
    let one = |name: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{{\"name\":\"{name}\"}}}}"
        )
    };
    let text = format!("{}\n---\n{}\n", one("a"), one("b"));
    assert_eq!(names("x.yaml", &text), ["a", "b"]);
    assert_eq!(names("x.json", &text), ["a", "b"]);
}

#[test]
fn duplicate_keys_are_refused_with_line_object_and_field() {
    let twice = "this key is there twice: remove one of the two";
    let rule = "  podSelector: {}\n  ingress: []\n  ingress: []\n";
    let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: ns}\nspec:\n";
    for (name, text, expected) in [
        (
            "x.yaml",
            format!("{head}{rule}"),
            "x.yaml:7: NetworkPolicy ns/p: spec.ingress: ",
        ),
        (
            "x.yaml",
            format!(
                "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Pod, metadata: {{name: o}}}}\n- {}",
                format!("{head}{rule}").replace('\n', "\n  ")
            ),
            "x.yaml:11: NetworkPolicy ns/p (items[1]): spec.ingress: ",
        ),
        (
            "x.json",
            "{\"kind\":\"List\",\"items\":[{},{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\",\n\"labels\":{\"a.b\":\"1\",\n\"a.b\":\"2\"}}}]}"
                .to_owned(),
            "x.json:3: Pod p (items[1]): metadata.labels[a.b]: ",
        ),
        ("x.yaml", "a: 1\nb:\n- c: 1\n  d: 2\n  c: 3\n".to_owned(), "x.yaml:5: document: b[0].c: "),
        ("x.yaml", "true: 1\nyes: 2\n".to_owned(), "x.yaml:2: document: true: "),
        ("x.yaml", "- a: 1\n  a: 2\n".to_owned(), "x.yaml:2: document: [0].a: "),
        (
            "x.json",
            "{}\n{\"a\":{\n\"b\":1,\n\"b\":2}}".to_owned(),
            "x.json:4: document: a.b: ",
        ),
        ("x.yaml", "{\"a\":1,\n\"a\":2}".to_owned(), "x.yaml:2: document: a: "),
    ] {
        refused(name, text, &format!("{expected}{twice}"));
    }
}

#[test]
fn an_error_in_a_list_names_the_line_of_its_item() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n\
                - apiVersion: v1\n  kind: Pod\n  metadata: {name: p}\n  extra: 1\n";
    refused(
        "x.yaml",
        text,
        "x.yaml:7: Pod default/p (items[1]): extra: unknown field",
    );
}

#[test]
fn broken_text_is_refused_with_file_and_line() {
    refused("x.yaml", "a: 1\nb: [1, 2\n", "x.yaml:2: invalid YAML");
    refused("x.yaml", "a: 1\nb: \"x\n", "invalid YAML");
    refused("x.yaml", "a: 1\nb: c: d\n", "x.yaml:2: invalid YAML");
    refused("x.yaml", "a:\n\tb: 1\n", "x.yaml:2: invalid YAML");
    refused("x.yaml", "a:\n\tb: 1\n", "use spaces, not tabs");
    refused(
        "x.yaml",
        "a: 1\nb: {{ .Values.x }\n",
        "a template must be rendered first",
    );
    refused(
        "x.yaml",
        "a: 1\n{{- if .Values.x }}\n",
        "a template must be rendered first",
    );
    refused(
        "x.yaml",
        b"a: 1\nb: \xff\n",
        "x.yaml:2: byte 0xff is not UTF-8",
    );
    refused(
        "x.yaml",
        b"\x7fELF\x02\x01\x01\0\0\0",
        "x.yaml:1: control character 0x02",
    );
    refused(
        "x.yaml",
        b"a: 1\nb: x\0y\n",
        "x.yaml:2: control character 0x00",
    );
    refused(
        "x.json",
        b"{\"a\":\n\"x\0y\"}",
        "x.json:2: control character 0x00",
    );
    refused(
        "x.json",
        "{\"a\":\n{\"b\":1}",
        "x.json:2: invalid JSON: EOF while parsing an object",
    );
    refused("x.json", "{\"a\":1e999}", "number out of range");
    refused("x.yaml", "a: *b\n", "unknown anchor");
    refused(
        "x.yaml",
        "a: &b 1\n---\na: *b\n",
        "x.yaml:3: the alias stands inside its own anchor",
    );
    refused(
        "x.yaml",
        "a: &b [*b]\n",
        "x.yaml:1: the alias stands inside its own anchor",
    );
}

#[test]
fn objects_before_a_syntax_error_are_checked_too() {
    let found = problems("x.yaml", b"apiVersion: v1\nkind: Pod\n---\na: [\n").unwrap();
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn a_message_stays_on_one_line_whatever_the_input_holds() {
    let text = "\"a\\nb\": 1\n\"a\\nb\": 2\n";
    refused("x.yaml", text, "a\\nb: this key is there twice");
    let long = format!("? {0}\n: 1\n? {0}\n: 2\n", "k".repeat(5000));
    assert!(problems("x.yaml", long.as_bytes()).unwrap().len() < 400);
}

#[test]
fn deep_nesting_is_refused() {
    refused("x.yaml", "[".repeat(65), "is nested deeper than 64 levels");
    refused(
        "x.yaml",
        "[".repeat(1_000_000),
        "is nested deeper than 64 levels",
    );
    refused(
        "x.yaml",
        "- ".repeat(1_000_000),
        "is nested deeper than 64 levels",
    );
    refused(
        "x.yaml",
        "{\"a\":".repeat(1_000_000),
        "is nested deeper than 64 levels",
    );
    let json = |depth: usize| {
        format!(
            "{{\"a\":{}{}}}",
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    refused(
        "x.json",
        json(65),
        "x.json:1: is nested deeper than 64 levels",
    );
    refused("x.json", json(64), "apiVersion: is required");
    let yaml = |depth: usize| format!("a: {}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    refused(
        "x.yaml",
        yaml(65),
        "x.yaml:1: is nested deeper than 64 levels",
    );
    refused("x.yaml", yaml(64), "apiVersion: is required");
    // Depth that only aliases make.
    let mut text = "a0: &a0 [x]\n".to_owned();
    for level in 1..70 {
        text += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    refused("x.yaml", text, "is nested deeper than 64 levels");
}

#[test]
fn alias_bombs_are_refused() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", "));
    }
    refused("x.yaml", laughs, "the aliases (`*name`) repeat too much");
    let long = format!(
        "a: &a {}\nb: [{}x]\n",
        "x".repeat(100_000),
        "*a, ".repeat(10_000)
    );
    refused(
        "x.yaml",
        long,
        "x.yaml:2: the aliases (`*name`) repeat too much",
    );
    let merges = format!(
        "a: &a {{k: {}}}\nb:\n{}",
        "x".repeat(1_000_000),
        "- <<: *a\n".repeat(1000)
    );
    refused("x.yaml", merges, "the aliases (`*name`) repeat too much");
}

#[test]
fn values_without_end_are_refused() {
    refused(
        "x.yaml",
        "- x\n".repeat(4_000_001),
        "holds more than 4000000 values",
    );
    refused(
        "x.json",
        format!("{{\"a\":[{}1]}}", "1,".repeat(4_000_001)),
        "holds more than 4000000 values",
    );
    refused(
        "x.yaml",
        format!("a: {}", "x".repeat(5 << 20)),
        "takes more than 4 MiB",
    );
    refused(
        "x.yaml",
        format!("[{}]", "a,".repeat(3 << 20)),
        "takes more than 4 MiB",
    );
}

#[test]
fn scalars_have_the_types_that_go_yaml_gives_them() {
    for boolean in ["yes", "No", "on", "OFF", "y", "N", "true", "False"] {
        refused(
            "x.yaml",
            annotated(boolean),
            "metadata.annotations[a]: invalid type: boolean",
        );
        refused("x.yaml", annotated(boolean), "quote it");
    }
    for number in [
        "1", "0x1F", "0o17", "017", "080", "1_000", "1e3", ".5", "+5", "0b11",
    ] {
        refused(
            "x.yaml",
            annotated(number),
            "metadata.annotations[a]: invalid type: ",
        );
        refused("x.yaml", annotated(number), "expected a string: quote it");
    }
    for null in ["", "~", "null", "NULL"] {
        refused(
            "x.yaml",
            annotated(null),
            "metadata.annotations[a]: invalid type: null",
        );
    }
    for string in [
        "'yes'",
        "\"1\"",
        "''",
        "yEs",
        "tRUE",
        "2001-01-01",
        "12:30",
        "1.2.3.4",
        "0x",
        "0b2",
        "1e400",
        "!!str 80",
        "! 80",
        "!mine 80",
        "nUll",
        "1,000",
        "0o8x",
        "--1",
        "+-1",
        "inf",
        "|\n      text",
    ] {
        assert_eq!(
            problems("x.yaml", annotated(string).as_bytes()),
            None,
            "{string}"
        );
    }
    for (text, number) in [
        ("80", 80),
        ("080", 80),
        ("0o120", 80),
        ("0120", 80),
        ("0x50", 80),
        ("80.0", 80),
        ("8e1", 80),
        ("+80", 80),
        ("8_0", 80),
        ("!!int '80'", 80),
        ("0b1010000", 80),
    ] {
        assert_eq!(port(text), number, "{text}");
    }
    refused(
        "x.yaml",
        with_port("80.5"),
        "containerPort: invalid type: floating point `80.5`",
    );
    refused("x.yaml", with_port(".inf"), "`.inf` is not a number");
    refused(
        "x.yaml",
        with_port("!!int x"),
        "`x` cannot be read as !!int",
    );
    refused(
        "x.yaml",
        with_port("!!binary eA=="),
        "cannot be read as !!binary",
    );
}

#[test]
fn keys_are_strings_as_in_json() {
    let text =
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n  labels: {yes: a, 1: b, x: c}\n";
    let loaded = load_bytes([("x.yaml", text.as_bytes())]).unwrap();
    let labels = loaded.objects[0].object.metadata().labels.clone().unwrap();
    assert_eq!(
        labels.keys().map(String::as_str).collect::<Vec<_>>(),
        ["1", "kubernetes.io/metadata.name", "true", "x"]
    );
    refused(
        "x.yaml",
        "~: 1\n",
        "x.yaml:1: a key must be a string, number or boolean, not null",
    );
    refused(
        "x.yaml",
        "a: 1\n? [a]\n: 1\n",
        "x.yaml:2: a key must be a string, number or boolean, not a collection",
    );
    refused(
        "x.yaml",
        "a: &a [1]\n*a : 1\n",
        "a key must be a string, number or boolean, not a collection",
    );
}

#[test]
fn merge_keys_bring_what_the_mapping_does_not_have() {
    let pod = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n  annotations: &a {{k: one, l: two}}\n  labels:\n{labels}"
        )
    };
    let text = pod("    <<: *a\n    k: mine\n");
    let loaded = load_bytes([("x.yaml", text.as_bytes())]).unwrap();
    let labels = loaded.objects[0].object.metadata().labels.clone().unwrap();
    assert_eq!(
        (labels["k"].as_str(), labels["l"].as_str()),
        ("mine", "two")
    );
    assert_eq!(
        problems(
            "x.yaml",
            pod("    <<: [*a, {k: no, m: three}]\n").as_bytes()
        ),
        None
    );
    refused(
        "x.yaml",
        pod("    k: mine\n    <<: *a\n"),
        "x.yaml:8: key `k` stands before the `<<`",
    );
    refused("x.yaml", pod("    <<: 1\n"), "`<<` takes a mapping");
    refused(
        "x.yaml",
        pod("    <<: *a\n    <<: *a\n"),
        "metadata.labels[<<]: this key is there twice",
    );
}
