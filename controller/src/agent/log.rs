//! What the agent writes on stderr.
//!
//! | level | says |
//! |---|---|
//! | error | something is not enforced as it was asked for |
//! | warn | a person should look |
//! | info | the state changed |
//! | debug | each sync |
//!
//! Lines are written by a thread of their own: a pipe that nobody reads holds nothing up. What it has no room for is lost,
//! and how much that was is said once there is room again.
//!
//! Objects are named by the same keys everywhere: `ns`, `policy` and `pod` (without the namespace, which is `ns`), and
//! `node`.

mod lossy;
mod repeated;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

pub use lossy::Flush;
pub use repeated::{Ended, Repeated, Seen};

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    #[default]
    Text,
    /// A JSON object, with the keys beside `timestamp`, `level`, `target` and `message`.
    Json,
}

/// Starts writing lines of this level, and of those above it, to stderr; once in a process. What is returned is to live
/// until the end: it waits a moment for what is not written yet.
///
/// # Errors
/// Somebody else started before.
pub fn start(format: Format, level: Level) -> Result<Flush, TryInitError> {
    let (to, flush) = lossy::writer(std::io::stderr(), |count| {
        tracing::warn!(count, "lines were lost, since nobody read what was written");
    });
    let layer = lines(format, level, to);
    tracing_subscriber::registry().with(layer).try_init()?;
    Ok(flush)
}

fn lines<W>(format: Format, level: Level, to: W) -> impl Layer<Registry>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(to);
    let layer = match format {
        // A file or a collector is no terminal: colours would be noise there.
        Format::Text => layer.with_ansi(false).with_target(false).boxed(),
        Format::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    // Of each attempt it would say that it failed, where the agent says it once and when it ends.
    let of_client = match level > Level::INFO {
        true => LevelFilter::from_level(level),
        false => LevelFilter::OFF,
    };
    let targets = Targets::new().with_default(level);
    layer.with_filter(targets.with_target("kube_client", of_client))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, level: Level) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = super::lines(format, level, move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(
                ns = "shop",
                policy = "db",
                node = "n",
                "the kernel\nrefused \u{1b}[31m"
            );
            tracing::debug!("synced");
            tracing::error!(target: "kube_client::client::builder", "failed with");
        });
        let bytes = lines.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_json_line_has_the_keys_beside_the_message() {
        let text = written(Format::Json, Level::INFO);
        let line: serde_json::Value = serde_json::from_str(&text).expect("one object");
        assert_eq!(line["ns"], "shop");
        assert_eq!(line["policy"], "db");
        assert_eq!(line["node"], "n");
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "the kernel\nrefused \u{1b}[31m");
        assert!(line["timestamp"].is_string(), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_text_line_has_the_same_and_no_colours() {
        let text = written(Format::Text, Level::INFO);
        assert!(text.contains("ERROR the kernel"), "{text}");
        assert!(
            text.contains("ns=\"shop\" policy=\"db\" node=\"n\""),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        assert!(!written(Format::Text, Level::INFO).contains("synced"));
        assert!(written(Format::Text, Level::DEBUG).contains("synced"));
    }

    #[test]
    fn what_the_client_of_the_api_server_says_of_each_attempt_is_for_debugging() {
        assert!(!written(Format::Text, Level::INFO).contains("failed with"));
        assert!(written(Format::Text, Level::DEBUG).contains("failed with"));
    }
}
