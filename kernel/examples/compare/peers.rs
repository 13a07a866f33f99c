//! Who else can tell nftables.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use testbed::Namespace;

/// A program that makes changes in a namespace of its own.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;
    /// Makes the changes and says how long it took.
    fn run(&mut self, change: &Change) -> Result<Duration, Box<dyn Error>>;
}

/// One change in the words of nft and in JSON.
pub(crate) struct Change {
    pub(crate) text: String,
    pub(crate) json: String,
}

/// `nft -f -`, started for each change.
pub(crate) struct Nft(pub(crate) Namespace);

impl Peer for Nft {
    fn name(&self) -> &'static str {
        "nft -f"
    }

    fn run(&mut self, change: &Change) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        self.0.nft(&change.text)?;
        Ok(start.elapsed())
    }
}

/// `nft -j -f -`, started for each change.
pub(crate) struct NftJson(pub(crate) Namespace);

impl Peer for NftJson {
    fn name(&self) -> &'static str {
        "nft -j -f"
    }

    fn run(&mut self, change: &Change) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        self.0.nft_json(&change.json)?;
        Ok(start.elapsed())
    }
}

/// libnftables in a process that stays; only its own time counts.
pub(crate) struct Library {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _namespace: Namespace,
}

impl Library {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let namespace = Namespace::new()?;
        let spawn = || {
            Command::new("/usr/bin/python3")
                .args(["-c", include_str!("libnftables.py")])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
        };
        let mut child = namespace.run(spawn)??;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or("no pipes")?;
        let mut library = Self {
            child,
            input,
            output: BufReader::new(output),
            _namespace: namespace,
        };
        let nothing = Change {
            text: "list tables".into(),
            json: String::new(),
        };
        library
            .run(&nothing)
            .map_err(|_| "install python3-nftables for libnftables")?;
        Ok(library)
    }
}

impl Peer for Library {
    fn name(&self) -> &'static str {
        "libnftables"
    }

    fn run(&mut self, change: &Change) -> Result<Duration, Box<dyn Error>> {
        write!(self.input, "{}\n{}", change.text.len(), change.text)?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let nanoseconds = line.trim().parse().map_err(|_| line.clone())?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
