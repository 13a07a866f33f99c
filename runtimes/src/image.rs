//! An image with busybox, as both runtimes import it: no registry is asked.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cri::ImageSpec;
use crate::error::{Error, io};
use crate::node::locate;

/// What the image is called.
pub(crate) const NAME: &str = "localhost/busybox:1";

/// Where the archive is in the node.
pub(crate) const FILE: &str = "/run/busybox.tar";

/// What busybox is in the image, beside itself.
const APPLETS: &[&str] = &[
    "cat", "httpd", "ip", "ls", "nc", "ping", "ping6", "ps", "sh", "sleep", "true", "wget",
];

/// As containerd is told of it.
pub(crate) fn spec() -> Option<ImageSpec> {
    Some(ImageSpec {
        image: NAME.to_owned(),
    })
}

/// An image layout of OCI as one file, with one image: busybox, which sleeps if it is told nothing else.
pub(crate) fn archive() -> Result<Vec<u8>, Error> {
    let busybox = locate("busybox", "busybox-static")?;
    let busybox = fs::read(&busybox).map_err(io(format!("read {}", busybox.display())))?;
    if is_dynamic(&busybox) {
        return Err(Error::MissingProgram {
            program: "busybox (static)",
            package: "busybox-static",
        });
    }
    let written = layer(&busybox).and_then(|layer| layout(&layer));
    written.map_err(io("make an image"))
}

/// Whether a program needs a loader, which the image does not have. The name of it is near the file's start.
fn is_dynamic(program: &[u8]) -> bool {
    let start = &program[..program.len().min(4096)];
    start.windows(4).any(|bytes| bytes == b"/ld-")
}

fn layer(busybox: &[u8]) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        let mut header = header(EntryType::Directory, 0);
        layer.append_data(&mut header, format!("{folder}/"), io::empty())?;
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\n";
    for (name, content) in [("bin/busybox", busybox), ("etc/passwd", passwd)] {
        layer.append_data(
            &mut header(EntryType::Regular, content.len()),
            name,
            content,
        )?;
    }
    for applet in APPLETS {
        let path = Path::new("bin").join(applet);
        layer.append_link(&mut header(EntryType::Symlink, 0), path, "busybox")?;
    }
    layer.into_inner()
}

fn layout(layer: &[u8]) -> io::Result<Vec<u8>> {
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    });
    let config = config.to_string().into_bytes();
    let described = |kind: &str, blob: &[u8]| {
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config),
        "layers": [described("layer.v1.tar", layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = described("manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        // containerd and podman each look at one of them.
        "io.containerd.image.name": NAME,
        "org.opencontainers.image.ref.name": NAME,
    });
    let index = json!({"schemaVersion": 2, "manifests": [entry]});

    let mut archive = Builder::new(Vec::new());
    let mut file = |name: &str, content: &[u8]| {
        archive.append_data(
            &mut header(EntryType::Regular, content.len()),
            name,
            content,
        )
    };
    file(
        "oci-layout",
        json!({"imageLayoutVersion": "1.0.0"})
            .to_string()
            .as_bytes(),
    )?;
    file("index.json", index.to_string().as_bytes())?;
    for blob in [layer, &config, &manifest] {
        file(&format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
    }
    archive.into_inner()
}

fn header(kind: EntryType, length: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(length as u64);
    header
}

fn digest(blob: &[u8]) -> String {
    let digest = Sha256::digest(blob);
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

/// What Go calls the architecture.
fn architecture() -> Value {
    let name = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Value::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_loader_is_not_for_the_image() {
        let program = |name| fs::read(locate(name, "").unwrap()).unwrap();
        assert!(is_dynamic(&program("mount")));
        assert!(!is_dynamic(&program("busybox")));
    }
}
