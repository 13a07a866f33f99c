//! Inputs that were made to cost much.

/// Each with what it is.
pub(crate) fn attacks() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, text: String| all.push((name.to_owned(), text));
    for depth in [60, 70, 254, 260, 10_000, 100_000] {
        for opening in [
            "[", "{a: ", "{\"a\":", "{\"a\":[", "- ", "? ", "[{", "&a [", "!x [", "{? ", "'a': [",
        ] {
            add(&format!("{depth} of {opening:?}"), opening.repeat(depth));
        }
        add(
            &format!("{depth} pairs"),
            "[".repeat(depth) + &"]".repeat(depth),
        );
        add(
            &format!("{depth} JSON pairs"),
            "{\"a\":[".repeat(depth) + &"]}".repeat(depth),
        );
    }
    let indented: String = (0..1000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    add("1000 levels by indentation", indented);

    let bomb = |start: &str, level: &dyn Fn(usize) -> String| {
        let levels: String = (1..12).map(level).collect();
        format!("a0: &a0 {start}\n{levels}")
    };
    let again = |name: usize| vec![format!("*a{}", name - 1); 9].join(", ");
    add(
        "a list of lists of aliases",
        bomb("[x, x, x]", &|n| format!("a{n}: &a{n} [{}]\n", again(n))),
    );
    let keys = |n: usize| {
        (0..9)
            .map(|k| format!("k{k}: *a{}", n - 1))
            .collect::<Vec<_>>()
            .join(", ")
    };
    add(
        "mappings of aliases",
        bomb("{x: x}", &|n| format!("a{n}: &a{n} {{{}}}\n", keys(n))),
    );
    add(
        "merges of merges",
        bomb("{x: x}", &|n| {
            format!("a{n}: &a{n} {{<<: [{}]}}\n", again(n))
        }),
    );
    add(
        "one mapping, many aliases",
        format!(
            "a: &a {{x: {{y: {{z: {{}}}}}}}}\nb: [{}]\n",
            "*a, ".repeat(50_000)
        ),
    );
    add(
        "one big value, many aliases",
        format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(30_000),
            "*a, ".repeat(10_000)
        ),
    );
    add(
        "small mappings, many aliases",
        format!("a: &a {{k: 0}}\nb: [{}]\n", "*a, ".repeat(50_000)),
    );
    add(
        "many anchors",
        (0..50_000).map(|n| format!("- &a{n} x\n")).collect(),
    );
    add(
        "nested anchors",
        (0..60).map(|n| format!("&a{n} [")).collect::<String>()
            + &"x, ".repeat(20_000)
            + &"]".repeat(60),
    );

    let long = 1 << 17;
    for (name, text) in [
        ("plain", "x".repeat(long)),
        ("double-quoted", format!("\"{}\"", "x".repeat(long))),
        ("escapes", format!("\"{}\"", "\\u0041".repeat(long / 6))),
        ("single-quoted", format!("'{}'", "''".repeat(long / 2))),
        ("literal", format!("|\n{}", " x\n".repeat(long / 3))),
        ("folded", format!(">\n{}", " x\n\n".repeat(long / 4))),
        ("open quote", format!("\"{}", "x\n ".repeat(long / 3))),
        ("digits", "9".repeat(long)),
        ("fraction", format!("0.{}", "1".repeat(long))),
        ("exponent", format!("1e{}", "9".repeat(long))),
        ("hexadecimal", format!("0x{}", "f".repeat(long))),
        ("underscores", format!("1{}", "_".repeat(long))),
        ("spaces", " ".repeat(long)),
        ("blank lines", "\n".repeat(long)),
        ("comments", "#\n".repeat(long / 2)),
        ("tag", format!("!{} x", "t".repeat(long))),
        ("anchor", format!("&{} x", "t".repeat(long))),
        ("flow list", format!("[{}]", "0,".repeat(long / 2))),
        (
            "flow list of lists",
            format!("[{}]", "[],".repeat(long / 3)),
        ),
        (
            "flow list of mappings",
            format!("[{}]", "{},".repeat(long / 3)),
        ),
        (
            "flow list of pairs",
            format!("[{}]", "a: b,".repeat(long / 5)),
        ),
        ("block list", "- 0\n".repeat(long / 4)),
        ("block list of mappings", "- {\"\":0}\n".repeat(long / 9)),
        (
            "JSON list of mappings",
            format!("{{\"a\":[{}{{}}]}}", "{\"\":0},".repeat(long / 7)),
        ),
        (
            "JSON list of lists",
            format!("{{\"a\":[{}0]}}", "[0],".repeat(long / 4)),
        ),
        ("JSON values", "{}".repeat(long / 2)),
        ("questions", "? \n".repeat(long / 3)),
        ("question marks", "? a\n: b\n".repeat(long / 8)),
        ("colons", ":".repeat(long)),
        ("colons and spaces", ": ".repeat(long / 2)),
        ("commas", format!("[{}", ",".repeat(long))),
        ("tabs", "\t".repeat(long)),
        ("carriage returns", "a: b\r".repeat(long / 5)),
    ] {
        add(&format!("{name}, long"), text.clone());
        add(
            &format!("{name}, long, as a value"),
            format!("apiVersion: v1\nkind: {text}"),
        );
    }
    add(
        "many keys",
        (0..30_000).map(|n| format!("k{n}: {n}\n")).collect(),
    );
    add("one key many times", "k: 0\n".repeat(30_000));
    add("many documents", "---\n".repeat(50_000));
    add("many documents with something", "--- a\n".repeat(30_000));
    add(
        "many directives",
        "%TAG !a! tag:x,2000:\n".repeat(20_000) + "--- a",
    );
    add("many ends", "...\n".repeat(50_000));
    add(
        "many wrong items",
        format!(
            "apiVersion: v1\nkind: List\nitems:\n{}",
            "- 0\n".repeat(30_000)
        ),
    );
    add(
        "lists in lists",
        "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[".repeat(25) + &"]}".repeat(25),
    );
    add(
        "unknown fields",
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n{}",
            (0..50_000)
                .map(|n| format!("  f{n}: 0\n"))
                .collect::<String>()
        ),
    );
    add(
        "many generated names",
        "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a}\n---\n".repeat(2_000),
    );
    let mut all: Vec<_> = all
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect();
    all.push(("zeros".to_owned(), vec![0; 1 << 17]));
    all.push(("ones".to_owned(), vec![0xff; 1 << 17]));
    all
}
