//! What happened, a line for each event: on standard error, and in a file where one is named. A log never fails a verb.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc::O_NONBLOCK;

use super::configuration::Configuration;
use super::environment::{Environment, Verb};
use super::error::Error;

/// The size in bytes from which on the file is put aside, in place of the one before.
const LARGEST: u64 = 1 << 20;

/// The longest line in bytes; a user's text may be longer.
const LONGEST_LINE: usize = 4096;

/// Where events go.
pub(super) struct Log {
    file: Option<PathBuf>,
    /// What every line starts with.
    subject: String,
}

impl Log {
    pub(super) fn to_stderr_only() -> Self {
        Self {
            file: None,
            subject: String::new(),
        }
    }

    pub(super) fn to(
        configuration: &Configuration<'_>,
        verb: Verb,
        environment: &Result<Environment, Error>,
    ) -> Self {
        let mut subject = format!("{} {}", verb.name(), configuration.network);
        if let Ok(environment) = environment {
            subject.push_str(&format!(" {}", environment.id));
            if let Some(pod) = &environment.pod {
                subject.push_str(&format!(" {}/{}", pod.namespace, pod.name));
            }
        }
        subject.push_str(": ");
        Self {
            file: configuration.log_file.clone(),
            subject,
        }
    }

    /// Tells everybody.
    pub(super) fn event(&self, text: &str) {
        // A runtime that does not read must not stop the verb: a write to a closed pipe fails, and that is all.
        let _ = writeln!(
            io::stderr().lock(),
            "picket-cni: {}",
            one_line(&self.line(text))
        );
        self.file_only(text);
    }

    /// Tells the file.
    pub(super) fn file_only(&self, text: &str) {
        if let Some(file) = &self.file {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let _ = append(
                file,
                &format!("{} {}\n", time(now.as_secs()), one_line(&self.line(text))),
            );
        }
    }

    fn line(&self, text: &str) -> String {
        format!("{}{text}", self.subject)
    }
}

/// One write each, so that lines of several plugins do not mix.
fn append(path: &Path, line: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() >= LARGEST) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        fs::rename(path, aside)?;
    }
    let mut options = OpenOptions::new();
    // Not waiting for the other side of a pipe.
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(O_NONBLOCK);
    let mut file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.write_all(line.as_bytes())
}

fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if line.len() >= LONGEST_LINE {
            line.push_str("...");
            break;
        }
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

/// A time as `2026-11-28T19:25:26Z`, by Howard Hinnant's `civil_from_days`.
fn time(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    // Years start in March there.
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_893_926, "2026-11-28T19:25:26Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn an_event_is_one_bounded_line() {
        assert_eq!(one_line("a\nb\u{7}"), "a\\nb\\u{7}");
        assert_eq!(one_line(&"ä".repeat(9_999)).len(), LONGEST_LINE + 3);
    }
}
