//! The image that `image/build` makes, in containerd, as runtimes start it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;
#[path = "image/node.rs"]
mod node;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use common::Recorded;
use serde_json::Value;
use sha2::{Digest, Sha256};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// When all of it was made.
const EPOCH: &str = "1700000000";
const NAME: &str = concat!("localhost/picket:", env!("CARGO_PKG_VERSION"));

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_of_cargo(variable: &str) -> bool {
    let more = ["LD_LIBRARY_PATH", "RUSTFLAGS"];
    (variable.starts_with("CARGO") && variable != "CARGO_HOME") || more.contains(&variable)
}

/// Runs `image/build`; what it prints, and the archive. The profile is the one of tests, which takes the least time.
fn build(output: &str, more: &[&str]) -> (String, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(output);
    let mut command = Command::new(Path::new(ROOT).join("image/build"));
    command.args(["--profile", "dev", "--output"]).arg(&folder);
    command.args(more);
    // Of this test's own build: crates would be built anew for each that has others.
    for (variable, _) in std::env::vars().filter(|(name, _)| is_of_cargo(name)) {
        command.env_remove(variable);
    }
    // Of no commit: somebody may make one meanwhile.
    command.env("REVISION", "0".repeat(40));
    let built = command.env("SOURCE_DATE_EPOCH", EPOCH).output().unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    let archive = format!("picket-{}.tar", env!("CARGO_PKG_VERSION"));
    (text(&built.stdout).trim().to_owned(), folder.join(archive))
}

/// The image of most tests.
fn image() -> &'static (String, PathBuf) {
    static IMAGE: OnceLock<(String, PathBuf)> = OnceLock::new();
    IMAGE.get_or_init(|| build("image", &[]))
}

fn digest(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

/// The files of an archive, by their names.
fn files(archive: &Path) -> Vec<(String, tar::Header, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    unpack(&mut archive)
}

fn unpack(archive: &mut tar::Archive<impl std::io::Read>) -> Vec<(String, tar::Header, Vec<u8>)> {
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (name, entry.header().clone(), content)
    });
    entries.collect()
}

/// Follows descriptors from `index.json` down to each image's configuration and files, and checks each digest on the way.
/// By architecture.
fn images(archive: &Path) -> BTreeMap<String, Image> {
    let files = files(archive);
    let blob = |described: &Value| {
        let named = described["digest"].as_str().unwrap();
        let path = format!("blobs/{}", named.replace(':', "/"));
        let (_, _, content) = files.iter().find(|(name, ..)| *name == path).unwrap();
        assert_eq!(digest(content), named);
        assert_eq!(content.len() as u64, described["size"].as_u64().unwrap());
        content.clone()
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (_, _, index) = files
        .iter()
        .find(|(name, ..)| name == "index.json")
        .unwrap();
    let index = json(&blob(&json(index)["manifests"][0]));
    let manifests = index["manifests"].as_array().unwrap().iter();
    let images = manifests.map(|described| {
        let manifest = json(&blob(described));
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        let image = Image {
            configuration: json(&blob(&manifest["config"])),
            layer: gunzip(blob(&manifest["layers"][0])),
        };
        let platform = &described["platform"];
        assert_eq!(platform["os"], "linux");
        let architecture = platform["architecture"].as_str().unwrap();
        assert_eq!(image.configuration["architecture"], architecture);
        assert_eq!(
            image.configuration["rootfs"]["diff_ids"][0],
            *digest(&image.layer)
        );
        (architecture.to_owned(), image)
    });
    images.collect()
}

/// What is in the archive for one architecture.
struct Image {
    configuration: Value,
    /// An archive itself.
    layer: Vec<u8>,
}

impl Image {
    fn files(&self) -> Vec<(String, tar::Header, Vec<u8>)> {
        unpack(&mut tar::Archive::new(&self.layer[..]))
    }

    /// A file that has to be there.
    fn file(&self, name: &str) -> Vec<u8> {
        let mut files = self.files().into_iter();
        files.find(|(of, ..)| of == name).unwrap().2
    }

    /// Puts its programs into a folder.
    fn programs(&self, folder: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).unwrap();
        for name in ["picket", "picket-cni"] {
            let program = folder.join(name);
            // One that runs, of a test before, cannot be written to.
            let _ = fs::remove_file(&program);
            fs::write(&program, self.file(name)).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }
}

fn gunzip(bytes: Vec<u8>) -> Vec<u8> {
    let mut gunzip = Command::new("gunzip");
    gunzip.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = gunzip.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &bytes));
    let unpacked = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap().unwrap();
    unpacked
}

/// Names of an architecture: of images, of Rust.
const ARCHITECTURES: [(&str, &str); 2] = [("amd64", "x86_64"), ("arm64", "aarch64")];

/// `ctr` in the node.
fn ctr_command(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120", "ctr", "--namespace", "k8s.io"]);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ctr(recorded: &Recorded, arguments: &[&str]) -> Output {
    let mut command = ctr_command(arguments);
    let child = recorded.runtimes.node().spawn(&mut command).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Starts a program of the image as the chart does: nothing of it may be written, and it has no capability.
fn run(recorded: &Recorded, id: &str, more: &[&str], argv: &[&str]) -> Output {
    let read_only = ["run", "--rm", "--read-only", "--cgroup", "", "--seccomp"];
    let arguments = [&read_only[..], more, &[NAME, id], argv].concat();
    let mut command = ctr_command(&arguments);
    let node = recorded.runtimes.node();
    let mut child = node.spawn(command.stdin(Stdio::piped())).unwrap();
    // An end of standard input that comes before the program runs is not told to it.
    let stdin = child.stdin.take();
    let runs = |tasks: String| {
        let mut lines = tasks.lines().map(str::split_whitespace);
        lines.any(|mut words| words.next() == Some(id) && words.any(|word| word == "RUNNING"))
    };
    while child.try_wait().unwrap().is_none() && !runs(done(ctr(recorded, &["tasks", "ls"]))) {}
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Runtimes that know the image.
fn imported() -> Recorded {
    let (_, archive) = image();
    let recorded = Recorded::start();
    fs::copy(archive, recorded.runtimes.node().path("/run/picket.tar")).unwrap();
    done(ctr(&recorded, &["images", "import", "/run/picket.tar"]));
    recorded
}

#[test]
fn the_image_runs_as_runtimes_start_it() {
    let recorded = imported();
    let listed = done(ctr(&recorded, &["images", "ls", "--quiet"]));
    assert!(listed.lines().any(|name| name == NAME), "{listed}");

    let version = done(run(&recorded, "version", &[], &["/picket", "--version"]));
    assert_eq!(
        version.trim(),
        concat!("picket ", env!("CARGO_PKG_VERSION"))
    );

    // Asked as the installer and runtimes do.
    let asked = ["--env", "CNI_COMMAND=VERSION"];
    let versions = done(run(&recorded, "plugin", &asked, &["/picket-cni"]));
    let versions: Value = serde_json::from_str(&versions).unwrap();
    let spoken = versions["supportedVersions"].as_array().unwrap();
    assert!(spoken.contains(&Value::from("1.0.0")), "{versions}");

    let shell = run(&recorded, "shell", &[], &["/bin/sh", "-c", "true"]);
    assert!(!shell.status.success(), "there is a shell");
}

#[test]
fn it_has_two_programs_of_root_and_says_what_it_is() {
    let (_, archive) = image();
    let images = images(archive);
    assert_eq!(images.len(), 1);
    let image = images.values().next().unwrap();
    let configuration = &image.configuration;
    assert_eq!(
        configuration["config"]["Entrypoint"],
        serde_json::json!(["/picket"])
    );
    assert_eq!(configuration["config"]["User"], "0:0");
    assert_eq!(configuration["os"], "linux");
    assert_eq!(configuration["created"], "2023-11-14T22:13:20Z");
    let labels = configuration["config"]["Labels"].as_object().unwrap();
    let label = |name: &str| {
        labels[&format!("org.opencontainers.image.{name}")]
            .as_str()
            .unwrap()
    };
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("revision").len(), 40);

    let files = image.files();
    let names: Vec<_> = files.iter().map(|(name, ..)| name.as_str()).collect();
    let licenses = ["", "README", "crates", "libc", "picket", "rust.html"];
    let licenses = licenses.map(|name| format!("licenses/{name}"));
    let programs = ["picket".to_owned(), "picket-cni".to_owned()];
    assert_eq!(names, [&licenses[..], &programs[..]].concat());
    for (name, header, program) in &files {
        let mode = match name.starts_with("licenses/") && !name.ends_with('/') {
            true => 0o644,
            false => 0o755,
        };
        let said = (
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
        );
        assert_eq!(said, (mode, 0, 0, EPOCH.parse().unwrap()), "{name}");
        // Nothing of who built it: the folder of the sources, and that of the crates.
        for path in [ROOT.trim_end_matches("/runtimes/.."), "/.cargo/registry"] {
            let found = program
                .windows(path.len())
                .any(|bytes| bytes == path.as_bytes());
            assert!(!found, "{name} names {path}");
        }
    }
}

#[test]
fn the_same_programs_are_the_same_image() {
    let (first, archive) = image();
    let (second, again) = build("image-again", &[]);
    assert_eq!(*first, second);
    assert!(fs::read(archive).unwrap() == fs::read(again).unwrap());
}

/// Programs of the other architecture, run by an emulator, answer as this machine's do.
#[test]
fn both_architectures_are_the_same_programs() {
    let is_here = |of: &&(&str, &str)| of.1 == std::env::consts::ARCH;
    let [here, other] = [true, false].map(|here| {
        let mut all = ARCHITECTURES.iter();
        *all.find(|of| is_here(of) == here).unwrap()
    });
    let (_, archive) = build("image-both", &["--arch", "amd64,arm64"]);
    let images = images(&archive);
    let names: Vec<_> = images.keys().map(String::as_str).collect();
    assert_eq!(names, ARCHITECTURES.map(|(name, _)| name));
    let emulator = format!("qemu-{}", other.1);
    let run = |of: (&str, &str), program: &str, arguments: &[&str]| {
        let folder = images[of.0].programs(&format!("programs-{}", of.0));
        let output = |mut command: Command| {
            command.arg(folder.join(program)).args(arguments);
            command.env("CNI_COMMAND", "VERSION").current_dir(ROOT);
            command.stdin(Stdio::null()).output()
        };
        if of == here {
            return done(output(Command::new("env")).unwrap());
        }
        let output = output(Command::new(&emulator));
        done(output.unwrap_or_else(|error| panic!("{emulator}: {error}: ./setup installs it")))
    };
    for (program, arguments) in [
        ("picket", "--version"),
        ("picket", "compile -f examples/shop --node node-1"),
        ("picket", "compile -f examples/shop --node node-1 -o json"),
        ("picket", "matrix -f examples/shop --from shop --to shop"),
        (
            "picket",
            "explain -f examples/shop shop/web-0 shop/db-0 5432/tcp",
        ),
        ("picket-cni", ""),
    ] {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        let expected = run(here, program, &arguments);
        assert!(!expected.is_empty(), "{program} {arguments:?}");
        assert_eq!(run(other, program, &arguments), expected, "{arguments:?}");
    }
}

/// Each crate of the list of contents, which has them by their licenses, with the text that its license asks for.
#[test]
fn the_licenses_of_all_that_is_in_it_are_in_it() {
    let (_, archive) = image();
    let images = images(archive);
    let image = images.values().next().unwrap();
    let text = |name: &str| String::from_utf8(image.file(&format!("licenses/{name}"))).unwrap();
    let ours = text("picket");
    assert!(ours.contains("Apache License") && ours.contains("Version 2.0"));
    assert!(text("libc").contains("GNU Lesser General Public"));
    assert!(text("rust.html").contains("The Rust Project"));
    let crates = text("crates");
    let (without, with) = crates.split_once("\n-----").unwrap();
    let listed = archive.with_file_name(concat!("picket-", env!("CARGO_PKG_VERSION"), ".cdx.json"));
    let listed: Value = serde_json::from_slice(&fs::read(listed).unwrap()).unwrap();
    let components = listed["components"].as_array().unwrap();
    // Those of this workspace have no checksum.
    let others = components.iter().filter(|one| one.get("hashes").is_some());
    let mut count = 0;
    for one in others {
        let word = |key: &str| one[key].as_str().unwrap();
        let name = format!("{} {} (", word("name"), word("version"));
        let is_named = |text: &str| text.lines().any(|line| line.starts_with(&name));
        let license = one["licenses"][0]["expression"].as_str().unwrap();
        // The text of that license is picket's own.
        let is_ours = is_named(without) && license.contains("Apache-2.0");
        assert!(is_named(with) || is_ours, "{name}{license})");
        count += 1;
    }
    assert!(count > 100, "{count}");
    // Copyleft of its own files: where those are is a part of what it asks for.
    let copyleft = crates.lines().filter(|line| line.contains("(MPL"));
    let copyleft: Vec<_> = copyleft.collect();
    assert!(copyleft.iter().all(|line| line.contains("https://")));
    assert!(!copyleft.is_empty());
}
