//! flannel's plugin, as the last release of the reference plugins that had it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What `go install` is told.
const MODULE: &str = "github.com/containernetworking/plugins/plugins/meta/flannel@v0.9.1";

/// The program, built once.
pub(crate) fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/flannel-0.9.1");
            let program = folder.join("flannel");
            if !program.exists() {
                let built = Command::new("go")
                    .args(["install", MODULE])
                    .env("GOBIN", &folder)
                    .env("GOFLAGS", "-mod=mod")
                    .env("CGO_ENABLED", "0")
                    .status();
                let is_built = built.is_ok_and(|status| status.success());
                assert!(
                    is_built,
                    "go install {MODULE} failed: install Go 1.21 or later"
                );
            }
            program
        })
        .clone()
}
