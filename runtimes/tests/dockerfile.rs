//! `image/Dockerfile`, which no container engine builds here, says what `image/build` does.

use std::collections::BTreeMap;
use std::fs;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn read(path: &str) -> String {
    let path = format!("{ROOT}/{path}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Lines that go on are one.
fn dockerfile() -> Vec<String> {
    let text = read("image/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(|line| line.trim().to_owned());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn both_give_the_image_the_same_labels_user_and_program() {
    let lines = dockerfile();
    let label = lines.iter().find_map(|line| line.strip_prefix("LABEL "));
    let labels = label.expect("labels").split("org.opencontainers.image.");
    let labels: BTreeMap<_, _> = labels
        .filter_map(|one| one.trim().split_once('='))
        .collect();
    let script = read("image/build");
    for name in ["title", "description", "licenses"] {
        let value = labels.get(name).unwrap_or_else(|| panic!("no {name}"));
        let said = format!("\"org.opencontainers.image.{name}\": {value}");
        assert!(script.contains(&said), "image/build lacks {said}");
    }
    for (name, argument) in [("version", "VERSION"), ("revision", "REVISION")] {
        assert_eq!(labels.get(name), Some(&&*format!("\"${argument}\"")));
        assert!(script.contains(&format!("\"org.opencontainers.image.{name}\": ${name}")));
    }
    let version = format!("ARG VERSION={}", env!("CARGO_PKG_VERSION"));
    assert!(lines.contains(&version), "{version}");
    // All files, and nothing but them.
    let last = lines.iter().rposition(|line| line.starts_with("FROM "));
    let last = last.expect("stages");
    assert_eq!(lines[last], "FROM scratch");
    let copied = lines[last..].iter().filter(|line| line.starts_with("COPY"));
    let copied: Vec<_> = copied.collect();
    assert_eq!(copied, ["COPY --from=builder /root-of-image/ /"]);
    assert!(
        lines.contains(&r#"RUN image/build --arch "$TARGETARCH" --root /root-of-image"#.to_owned())
    );
    for (line, said) in [
        ("USER 0:0", r#"User: "0:0""#),
        (r#"ENTRYPOINT ["/picket"]"#, r#"Entrypoint: ["/picket"]"#),
    ] {
        assert!(lines[last..].iter().any(|one| one == line), "{line}");
        assert!(script.contains(said), "{said}");
    }
}

#[test]
fn releases_and_the_dockerfile_build_with_the_same_rust() {
    let lines = dockerfile();
    let from = lines
        .iter()
        .find_map(|line| line.strip_suffix(" AS builder"));
    let builder = from
        .expect("a builder")
        .rsplit(' ')
        .next()
        .expect("its image");
    let release = read(".github/workflows/release.yaml");
    assert!(
        release.contains(&format!("container: {builder}\n")),
        "{builder}"
    );
    let version = builder.split([':', '-']).nth(1).expect("a version");
    let tests = read(".github/workflows/ci.yaml");
    assert!(
        tests.contains(&format!("rustup default {version}\n")),
        "{version}"
    );
}
