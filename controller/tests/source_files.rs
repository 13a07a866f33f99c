//! PATH arguments: files, folders, standard input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails"
)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use controller::source::{Errors, Loaded, MAX_BYTES, Note, Origin, load};

/// A folder of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("picket-source-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a manifest of one namespace.
    fn namespace(&self, file: &str, name: &str) -> PathBuf {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, namespace(name)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn namespace(name: &str) -> String {
    format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": \"{name}\"}}}}\n"
    )
}

fn read(paths: &[&Path]) -> Result<Loaded, Errors> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    load(&paths, &mut io::empty())
}

/// Names of namespaces and the files they are from, below `folder`.
fn origins(loaded: &Loaded, folder: &Folder) -> Vec<(String, String)> {
    let read = loaded
        .objects
        .iter()
        .filter_map(|sourced| match &sourced.origin {
            Origin::Read(place) => Some((
                sourced.object.metadata().name.clone().unwrap(),
                place.file.to_string(),
            )),
            _ => None,
        });
    let prefix = format!("{}/", folder.0.display());
    read.map(|(name, file)| (name, file.replace(&prefix, "")))
        .collect()
}

#[test]
fn a_folder_is_read_recursively_by_extension() {
    let folder = Folder::new("recursive");
    folder.namespace("b.yaml", "b");
    folder.namespace("a/x.yml", "a-x");
    folder.namespace("a/deep/er/y.json", "a-y");
    folder.namespace("a/notes.txt", "text");
    folder.namespace("a/x.yaml.bak", "bak");
    let loaded = read(&[&folder.0]).unwrap();
    let names: Vec<String> = origins(&loaded, &folder)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["a-x", "a-y", "b"]);
}

#[test]
fn files_of_a_folder_are_in_byte_order_of_their_paths() {
    let folder = Folder::new("order");
    for file in ["a/x.yaml", "a-b.yaml", "a.yaml", "B.yaml"] {
        folder.namespace(file, "same");
    }
    let errors = read(&[&folder.0]).unwrap_err();
    // Each after the first is the same object again.
    let first = errors
        .problems()
        .iter()
        .map(|problem| problem.cause.to_string());
    assert!(
        first
            .collect::<Vec<_>>()
            .iter()
            .all(|cause| cause.contains("B.yaml:1"))
    );
    let files: Vec<&str> = errors
        .problems()
        .iter()
        .map(|problem| problem.file.rsplit_once("-order/").unwrap().1)
        .collect();
    assert_eq!(files, ["a-b.yaml", "a.yaml", "a/x.yaml"]);
}

#[test]
fn links_in_circles_end() {
    let folder = Folder::new("circle");
    folder.namespace("a/x.yaml", "x");
    symlink(&folder.0, folder.path("a/up")).unwrap();
    symlink("self", folder.path("a/self")).unwrap();
    symlink(folder.path("a"), folder.path("b")).unwrap();
    let loaded = read(&[&folder.0]).unwrap();
    assert_eq!(
        origins(&loaded, &folder),
        [("x".to_owned(), "a/x.yaml".to_owned())]
    );
}

#[test]
fn a_file_that_several_paths_lead_to_is_read_once() {
    // As the kubelet mounts a ConfigMap.
    let folder = Folder::new("once");
    folder.namespace("..2024/x.yaml", "x");
    symlink("..2024", folder.path("..data")).unwrap();
    symlink("..data/x.yaml", folder.path("x.yaml")).unwrap();
    let file = folder.path("x.yaml");
    assert_eq!(
        origins(&read(&[&folder.0, &file]).unwrap(), &folder).len(),
        1
    );
    assert_eq!(
        origins(&read(&[&file, &file]).unwrap(), &folder),
        [("x".to_owned(), "x.yaml".to_owned())]
    );
}

#[test]
fn a_file_named_on_the_command_line_needs_no_extension() {
    let folder = Folder::new("named");
    let path = folder.namespace("manifest", "x");
    assert_eq!(origins(&read(&[&path]).unwrap(), &folder).len(), 1);
}

#[test]
fn an_empty_folder_beside_others_is_noted() {
    let (folder, other) = (Folder::new("empty"), Folder::new("other"));
    let loaded = read(&[&folder.0, &other.namespace("x.yaml", "x")]).unwrap();
    assert_eq!(
        loaded.notes.first(),
        Some(&Note::EmptyFolder {
            path: folder.0.clone()
        })
    );
}

#[test]
fn paths_that_together_hold_nothing_to_read_are_an_error_that_names_them() {
    let folder = Folder::new("nothing");
    let nothing = |paths: &[&Path], stdin: &str| {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        let errors = load(&paths, &mut stdin.as_bytes()).unwrap_err();
        errors
            .to_string()
            .replace(&format!("{}", folder.0.display()), "F")
    };
    let none = "there is no Namespace, Node, Pod, NetworkPolicy or workload in it";
    assert_eq!(
        nothing(&[&folder.0], ""),
        format!("F: {none}: check the path")
    );
    let comment = folder.path("comment.yaml");
    fs::write(&comment, "# nothing\n---\n").unwrap();
    let list = folder.path("list.json");
    fs::write(
        &list,
        r#"{"apiVersion": "v1", "kind": "List", "items": []}"#,
    )
    .unwrap();
    assert_eq!(
        nothing(&[&comment, &list, Path::new("-")], ""),
        format!("F/comment.yaml, F/list.json, -: {none}: check the path")
    );
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    assert_eq!(
        nothing(&[Path::new("-")], service),
        format!("-: {none} (only 1 Service): check the path")
    );
}

#[test]
fn what_cannot_be_read_is_an_error_and_does_not_hide_the_others() {
    let folder = Folder::new("missing");
    fs::write(folder.path("bad.yaml"), "a: [").unwrap();
    symlink("nowhere", folder.path("broken.yaml")).unwrap();
    let missing = folder.path("missing.yaml");
    let errors = read(&[&missing, &folder.0]).unwrap_err().to_string();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    assert!(lines[0].contains("bad.yaml:1: invalid YAML"), "{errors}");
    assert!(
        lines[1].contains("broken.yaml: cannot be read: No such file"),
        "{errors}"
    );
    assert!(
        lines[2].contains("missing.yaml: cannot be read: No such file"),
        "{errors}"
    );
}

#[test]
fn a_fifo_in_a_folder_is_refused_and_does_not_block() {
    let folder = Folder::new("fifo");
    let fifo = folder.path("x.yaml");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let errors = read(&[&folder.0]).unwrap_err().to_string();
    assert!(
        errors.ends_with("x.yaml: is not a regular file"),
        "{errors}"
    );
}

#[test]
fn a_fifo_named_on_the_command_line_is_read() {
    let folder = Folder::new("named-fifo");
    let fifo = folder.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let writer = fifo.clone();
    let thread = std::thread::spawn(move || fs::write(writer, namespace("x")).unwrap());
    assert_eq!(origins(&read(&[&fifo]).unwrap(), &folder).len(), 1);
    thread.join().unwrap();
}

#[test]
fn a_file_above_the_limit_is_refused_by_its_size() {
    let folder = Folder::new("large");
    let path = folder.path("large.yaml");
    // Sparse: reading it would take time and memory, knowing its size does not.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let errors = read(&[&path]).unwrap_err().to_string();
    assert!(
        errors.ends_with("large.yaml: is larger than 64 MiB: split it into several files"),
        "{errors}"
    );
    // The limit itself is still read (and found to be no text).
    fs::File::create(&path).unwrap().set_len(MAX_BYTES).unwrap();
    let errors = read(&[&path]).unwrap_err().to_string();
    assert!(errors.contains("control character 0x00"), "{errors}");
}

#[test]
fn standard_input_without_end_is_refused_at_the_limit() {
    let mut stdin = io::repeat(b'#');
    let errors = load(&["-".into()], &mut stdin).unwrap_err().to_string();
    assert_eq!(
        errors,
        "<stdin>: is larger than 64 MiB: split it into several files"
    );
}

#[test]
fn standard_input_is_read_once() {
    let text = namespace("x") + &namespace("y");
    let loaded = load(&["-".into()], &mut text.as_bytes()).unwrap();
    assert_eq!(
        loaded
            .objects
            .iter()
            .filter(|sourced| sourced.object.kind() == "Namespace")
            .count(),
        2
    );
    let errors = load(&["-".into(), "-".into()], &mut text.as_bytes())
        .unwrap_err()
        .to_string();
    assert_eq!(errors, "-: standard input can be given only once");
}

#[test]
fn an_error_while_reading_is_reported() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the pipe broke"))
        }
    }
    let errors = load(&["-".into()], &mut Broken).unwrap_err().to_string();
    assert_eq!(errors, "<stdin>: cannot be read: the pipe broke");
}
